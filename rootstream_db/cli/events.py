"""``rootstream-db events``: what happened, as it was recorded."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rootstream_db.cli.invocation import Invocation, command

if TYPE_CHECKING:
    from rootstream_db.services.event_store import RecordedEvent

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


def _row(event: RecordedEvent) -> dict[str, Any]:
    return {
        "position": event.position,
        "aggregate": f"{event.aggregate_type}/{event.aggregate_id}",
        "version": event.version,
        "type": event.event_type,
        "recorded_at": event.recorded_at.isoformat(timespec="milliseconds"),
        "data": event.data,
    }
