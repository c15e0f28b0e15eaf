"""What the demo asked for, counted on the asking side, and the checks that hold the data to it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rootstream_db.rootstream import RootStream


class Told:
    """Counts what was told to the data layer; shared by the threads that tell."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, **counts: int) -> None:
        """Add to the counts by name."""
        with self._lock:
            self._counts.update(counts)

    def __getitem__(self, name: str) -> int:
        return self._counts[name]


@dataclass(frozen=True)
class Check:
    """One total, from the side that asked and from the side that stored."""

    total: str
    told: int
    found: int

    @property
    def agrees(self) -> bool:
        """Whether nothing was lost and nothing doubled."""
        return self.told == self.found

    def as_row(self) -> dict[str, Any]:
        """Return the check as a row of the summary table."""
        return {**asdict(self), "agrees": self.agrees}


def checks(rs: RootStream, told: Told, *, streams: Sequence[int], start: int) -> list[Check]:
    """Compare every total of the demo with PostgreSQL and with the replayed events.

    Args:
        rs: the data layer the demo ran on.
        told: what the demo asked for.
        streams: ids of the demo's streams; a folder used again holds older ones too.
        start: position of the last event before the demo.
    """
    with rs.database.read() as work:
        totals = work.stream_totals.list_by_streams(streams)
        sessions = [row for id_ in streams for row in work.stream_sessions.list_by_stream(id_)]
        live = [row for row, _ in work.stream_live.list_live() if row.stream_id in set(streams)]
    events = list(rs.events.read_all(after_position=start))
    replayed = Counter(event.event_type for event in events)
    span = events[-1].position - start if events else 0
    return [
        Check("accounts, by replay", told["accounts"], replayed["UserRegistered"]),
        Check("streams, by replay", told["streams"], replayed["StreamCreated"]),
        Check(
            "broadcasts ended", told["starts"], sum(row.ended_at is not None for row in sessions)
        ),
        Check("broadcasts ended, by replay", told["starts"], replayed["StreamEnded"]),
        Check("reconnects", told["reconnects"], sum(row.reconnects for row in sessions)),
        Check("reconnects, by replay", told["reconnects"], replayed["StreamResumed"]),
        Check("streams still live", 0, len(live)),
        Check("viewer heartbeats", told["heartbeats"], sum(row.heartbeats for row in totals)),
        Check("watch seconds", told["watch_seconds"], sum(row.watch_seconds for row in totals)),
        Check("bytes out", told["bytes_out"], sum(row.bytes_out for row in totals)),
        Check("events without a gap", span, len(events)),
    ]
