"""``rootstream-db ingest``: the server that media servers ask for permission."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from rootstream_db.cli.exit_codes import ExitCode
from rootstream_db.cli.invocation import Invocation, command
from rootstream_db.cli.logs import write_logs

if TYPE_CHECKING:
    from rootstream_db.settings import Settings

app = typer.Typer(help="Answer the hooks of nginx-rtmp, MediaMTX and SRS.", no_args_is_help=True)


@command(app)
def serve(
    invocation: Invocation,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")
    ] = None,
) -> None:
    """Answer hooks, end streams whose publisher died and flush viewer counts, until stopped."""
    from rootstream_db.services.ingest import IngestServer

    write_logs(invocation.settings.logging)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ExitCode.OK))
    with invocation.rootstream() as rootstream:
        server = IngestServer(
            rootstream.ingest,
            database=rootstream.database,
            streams=rootstream.streams,
            viewers=rootstream.viewers,
            settings=_listening(rootstream.settings, host=host, port=port),
        )
        with server:
            # Scripts wait for this line: it says which port was taken.
            invocation.output.result({"url": server.url}, f"ingest hooks: {server.url}")
            sys.stdout.flush()
            server.run()


@command(app, "catch-up")
def catch_up(invocation: Invocation) -> None:
    """Register recordings that were finished while no hook server ran; `serve` does so at start."""
    from rootstream_db.services.ingest import MissedRecordings

    with invocation.rootstream() as rootstream:
        directory = rootstream.settings.ingest.recordings_directory
        missed = MissedRecordings(rootstream.database, directory, clock=rootstream.clock)
        decisions = [rootstream.ingest.authorize(request) for request in missed.find()]
    registered = sum(decision.allow for decision in decisions)
    found = {"found": len(decisions), "registered": registered}
    invocation.output.result(found, f"recordings: {len(decisions)} found, {registered} registered")


def _listening(settings: Settings, **given: object) -> Settings:
    changes = {name: value for name, value in given.items() if value is not None}
    return settings.model_copy(update={"ingest": settings.ingest.model_copy(update=changes)})
