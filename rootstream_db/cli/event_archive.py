"""``rootstream-db events archive`` and ``archives``: old events, moved into files."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rootstream_db.cli.invocation import Invocation, command
from rootstream_db.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rootstream_db.services.event_archive import Archive


def archive(
    invocation: Invocation,
    *,
    before_position: Annotated[
        int | None, typer.Option(min=1, help="Move events before this position.")
    ] = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="TIME", help="Move events older than this, such as 90d.")
    ] = None,
    keep: Annotated[
        int | None, typer.Option(min=0, help="Leave so many of the latest events.")
    ] = None,
) -> None:
    """Move the oldest events out of the database, into files that readers fall through to.

    Give at least one limit; the strictest counts. A killed run loses nothing: run it again.
    """
    age = None if older_than is None else _duration(older_than)
    with invocation.rootstream() as rootstream:
        archiver = rootstream.event_archive
        plan = archiver.plan(before_position=before_position, older_than=age, keep=keep)
        with invocation.output.progress("archiving events", plan.events) as advance:
            made = archiver.archive(
                before_position=before_position, older_than=age, keep=keep, progress=advance
            )
    invocation.output.table("archives", _rows(made), empty="nothing to archive")


def archives(invocation: Invocation) -> None:
    """List the files of archived events."""
    with invocation.rootstream() as rootstream:
        found = rootstream.event_archive.archives()
    invocation.output.table("archives", _rows(found), empty="nothing is archived")


def register(app: typer.Typer) -> None:
    """Add the commands to the group ``events``."""
    command(app)(archive)
    command(app)(archives)


def _duration(text: str) -> timedelta:
    from pydantic import TypeAdapter
    from pydantic import ValidationError as NoDurationError

    from rootstream_db.settings.section import Duration

    try:
        return TypeAdapter[timedelta](Duration).validate_python(text)
    except NoDurationError as error:
        raise ValidationError(
            f"--older-than takes a length of time such as 90d or 12h, not {text!r}",
            field="older_than",
        ) from error


def _rows(found: Iterable[Archive]) -> list[dict[str, Any]]:
    return [
        {
            "first_position": archive.first_position,
            "last_position": archive.last_position,
            "events": archive.events,
            "bytes": archive.size_bytes,
            "recorded_from": archive.recorded_from.isoformat(timespec="seconds"),
            "recorded_until": archive.recorded_until.isoformat(timespec="seconds"),
            "file": archive.file_name,
            "sha256": archive.sha256.hex(),
        }
        for archive in found
    ]
