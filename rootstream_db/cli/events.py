"""``rootstream-db events``: what happened, as it was recorded."""

from __future__ import annotations

from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from rootstream_db.cli.exit_codes import ExitCode
from rootstream_db.cli.invocation import Invocation, command
from rootstream_db.errors import ValidationError

if TYPE_CHECKING:
    from rootstream_db.services.event_store import RecordedEvent, Verification

app = typer.Typer(help="Read the event log.", no_args_is_help=True)

Limit = Annotated[int, typer.Option(min=1, max=100_000, help="How many events at most.")]


@command(app)
def show(
    invocation: Invocation,
    *,
    aggregate_type: Annotated[str, typer.Argument(help="Such as Stream or User.")],
    aggregate_id: Annotated[str, typer.Argument(help="Id of the aggregate.")],
    after_version: Annotated[int, typer.Option(min=0, help="Start after this version.")] = 0,
    limit: Limit = 1000,
) -> None:
    """Show the history of one aggregate."""
    with invocation.rootstream() as rootstream:
        found = rootstream.events.read(aggregate_type, aggregate_id, after_version=after_version)
        rows = [_row(event) for event in islice(found, limit)]
    invocation.output.table("events", rows, empty=f"no events of {aggregate_type}/{aggregate_id}")


@command(app, "list")
def list_events(
    invocation: Invocation,
    after_position: Annotated[int, typer.Option(min=0, help="Start after this position.")] = 0,
    limit: Limit = 100,
) -> None:
    """List events of all aggregates in the order they happened."""
    with invocation.rootstream() as rootstream:
        found = rootstream.events.read_all(after_position=after_position)
        rows = [_row(event) for event in islice(found, limit)]
    invocation.output.table("events", rows, empty="no events")


@command(app)
def tail(
    invocation: Invocation,
    *,
    after_position: Annotated[
        int | None, typer.Option(min=0, help="Start after this position instead of near the end.")
    ] = None,
    types: Annotated[list[str] | None, typer.Option("--type", help="Only this type.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="How many positions back to start.")] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more.")] = False,
    idle: Annotated[
        float | None, typer.Option(min=0, help="Stop after so many seconds without an event.")
    ] = None,
) -> None:
    """Print the latest events, one a line, and with --follow those to come.

    With --json every line is an object.
    """
    with invocation.rootstream() as rootstream:
        events = rootstream.events
        if after_position is None:
            after_position = max(0, events.head().last_position - limit)
        wanted = set(types) if types else None
        if follow:
            found = events.follow(after_position=after_position, types=wanted, idle=idle)
        else:
            found = events.read_all(after_position=after_position, types=wanted)
        for event in found:
            row = _row(event)
            invocation.output.result(row, _line(row))


@command(app)
def verify(
    invocation: Invocation,
    *,
    after_position: Annotated[int, typer.Option(min=0, help="Begin after this position.")] = 0,
    anchors: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Anchors to hold it against.")
    ] = None,
    public_key: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Ed25519 key (PEM) that signed them all."),
    ] = None,
) -> ExitCode:
    """Hold the log against its hashes and anchors; exit with 1 and say where it is wrong."""
    from rootstream_db.services.event_store.anchors import read_anchors, read_public_key

    if public_key is not None and anchors is None:
        raise ValidationError("--public-key goes with --anchors", field="public_key")
    key = read_public_key(public_key) if public_key else None
    known = list(read_anchors(anchors, key)) if anchors else []
    with invocation.rootstream() as rootstream:
        events = rootstream.events
        total = events.head().last_position - after_position
        with invocation.output.progress("verifying events", max(0, total)) as advance:
            result = events.verify(after_position=after_position, anchors=known, progress=advance)
    return _report(invocation, result)


def _report(invocation: Invocation, result: Verification) -> ExitCode:
    finding = result.finding
    facts = {
        "ok": result.ok,
        "events": result.events,
        "after_position": result.after_position,
        "last_position": result.head.last_position,
        "anchors": result.anchors,
        "finding": asdict(finding) if finding else None,
    }
    text = f"{result.events} events and {result.anchors} anchors hold"
    if finding is None:
        invocation.output.result(facts, text)
        return ExitCode.OK
    if invocation.output.as_json:
        invocation.output.result(facts)
    else:
        invocation.output.messages.print(str(finding), style="red", markup=False, soft_wrap=True)
    return ExitCode.FAILURE


@command(app)
def anchor(
    invocation: Invocation,
    *,
    file: Annotated[Path, typer.Option(dir_okay=False, help="File to append to.")],
    key: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Ed25519 key (PEM) to sign with."),
    ] = None,
) -> None:
    """Write down where the log ends and the chain there, for `verify --anchors`.

    Keep the file where whoever can write to the database cannot.
    """
    from rootstream_db.services.event_store.anchors import append_anchor, read_private_key

    signing = read_private_key(key) if key else None
    with invocation.rootstream() as rootstream:
        made = rootstream.events.anchor()
    append_anchor(file, made, signing)
    invocation.output.result(
        {"last_position": made.last_position, "chain": made.chain.hex(), "signed": bool(key)},
        f"anchored the log at position {made.last_position}",
    )


def _line(row: dict[str, Any]) -> str:
    data = orjson.dumps(row["data"]).decode()
    return f"{row['position']} {row['recorded_at']} {row['aggregate']} {row['type']} {data}"


def _row(event: RecordedEvent) -> dict[str, Any]:
    return {
        "position": event.position,
        "aggregate": f"{event.aggregate_type}/{event.aggregate_id}",
        "version": event.version,
        "type": event.event_type,
        "recorded_at": event.recorded_at.isoformat(timespec="milliseconds"),
        "data": event.data,
    }
