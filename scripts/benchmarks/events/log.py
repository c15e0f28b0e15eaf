"""The event that is appended over and over, and what the log holds of it."""

from __future__ import annotations

from typing import Final

from rootstream_db import RootStream
from rootstream_db.services.event_store import EventStore, NewEvent

EVENT_TYPE: Final = "Ticked"
DATA: Final = {
    "bitrate_kbps": 4500,
    "fps": 60.0,
    "node": "ingest-1",
    "resolution": "1920x1080",
    "viewers": 1234,
    "note": "as large as most events are, which is about 150 bytes",
}
METADATA: Final = {"client": "encoder/31.0", "region": "eu-central", "attempt": 1}

_FILL: Final = 1000


def make_events(count: int) -> list[NewEvent]:
    """Return that many new events."""
    return [NewEvent(event_type=EVENT_TYPE, data=DATA, metadata=METADATA) for _ in range(count)]


def append(
    rootstream: RootStream,
    aggregate: tuple[str, str],
    size: int,
    *,
    events: EventStore | None = None,
) -> None:
    """Append that many events in one transaction, as an application does."""
    with rootstream.transaction() as work:
        (events or rootstream.events).append_many(work, *aggregate, make_events(size))


def fill(rootstream: RootStream, count: int) -> int:
    """Append until the log has at least ``count`` events; return how many it has."""
    missing = count - rootstream.events.head().last_position
    for number in range(0, missing, _FILL):
        append(rootstream, ("Filling", str(number // _FILL % 100)), min(_FILL, missing - number))
    return rootstream.events.head().last_position
