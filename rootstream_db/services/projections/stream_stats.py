"""Statistics of streams by day: what ended broadcasts add up to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from rootstream_db.repositories.events import RecordedEvent
from rootstream_db.services.projections.projection import Projection
from rootstream_db.unit_of_work import UnitOfWork

ENDED: Final = "StreamEnded"

_DAY: Final = timedelta(days=1)
_MICROSECOND: Final = timedelta(microseconds=1)
_COUNTS: Final = ("bytes_in", "bytes_out", "views", "watch_seconds")


class StreamStatsProjection(Projection):
    """Adds every broadcast that ended to the days, UTC, of its stream.

    Time on the air counts on each day it fell on, everything else on the day the broadcast began.
    """

    name = "stream_stats_day"
    types = frozenset({ENDED})

    def apply_batch(self, work: UnitOfWork, events: Sequence[RecordedEvent]) -> None:
        """Add the broadcasts, those of one day together."""
        days: dict[tuple[int, date], dict[str, Any]] = {}
        for event in events:
            if event.aggregate_type == "Stream":
                for row in rows_of(int(event.aggregate_id), event.data):
                    _merge(days, row)
        # In one order, as everybody who locks several rows.
        work.stream_stats.add_all([days[key] for key in sorted(days)])

    def reset(self, work: UnitOfWork) -> None:
        """Delete all statistics."""
        work.stream_stats.clear()


def rows_of(stream_id: int, ended: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what one broadcast adds to the days of its stream, the first one first."""
    started_at = datetime.fromisoformat(ended["started_at"]).astimezone(UTC)
    ended_at = datetime.fromisoformat(ended["ended_at"]).astimezone(UTC)
    rows = [
        _row(stream_id, day, live_seconds=seconds) for day, seconds in _days(started_at, ended_at)
    ]
    rows[0] |= {"broadcasts": 1, "peak_viewers": ended["peak_viewers"]}
    rows[0] |= {name: ended[name] for name in _COUNTS}
    return rows


def _row(stream_id: int, day: date, *, live_seconds: Decimal) -> dict[str, Any]:
    nothing = dict.fromkeys(("broadcasts", *_COUNTS, "peak_viewers"), 0)
    return {"stream_id": stream_id, "day": day, "live_seconds": live_seconds, **nothing}


def _days(started_at: datetime, ended_at: datetime) -> Iterator[tuple[date, Decimal]]:
    """Yield the days of a broadcast, and the seconds on the air on each."""
    since = started_at
    while True:
        midnight = datetime.combine(since.date(), datetime.min.time(), UTC) + _DAY
        until = min(midnight, ended_at)
        yield since.date(), Decimal((until - since) // _MICROSECOND) / 1_000_000
        if ended_at <= midnight:
            return
        since = midnight


def _merge(days: dict[tuple[int, date], dict[str, Any]], row: dict[str, Any]) -> None:
    key = (row["stream_id"], row["day"])
    known = days.setdefault(key, row)
    if known is row:
        return
    for name in ("broadcasts", "live_seconds", *_COUNTS):
        known[name] += row[name]
    known["peak_viewers"] = max(known["peak_viewers"], row["peak_viewers"])
