"""The command line's front door: every group of commands, and nothing that takes long to import."""

from __future__ import annotations

from typing import Annotated

import typer

from rootstream_db.cli import (
    access,
    config,
    db,
    demo,
    doctor,
    event_archive,
    events,
    ingest,
    keys,
    mfa,
    projections,
    security,
    session,
    stream,
    user,
    webhook,
)

app = typer.Typer(
    name="rootstream-db",
    help="The data layer of a live-streaming platform, on PostgreSQL and Redis.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for name, group in (
    ("config", config.app),
    ("db", db.app),
    ("user", user.app),
    ("access", access.app),
    ("session", session.app),
    ("mfa", mfa.app),
    ("stream", stream.app),
    ("events", events.app),
    ("ingest", ingest.app),
    ("keys", keys.app),
    ("webhook", webhook.app),
    ("security", security.app),
):
    app.add_typer(group, name=name)
event_archive.register(events.app)
projections.register(events.app)
demo.register(app)
doctor.register(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("rootstream-db"))
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """The data layer of a live-streaming platform, on PostgreSQL and Redis."""


def main() -> None:
    """Run the command named on the command line."""
    app()
