"""Where counter flushes leave their receipts, and how their increments are added up."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import delete, select, text
from sqlalchemy.dialects.postgresql import insert

from rootstream_db.models import CounterFlush, StreamLive
from rootstream_db.repositories.base import Repository

_LOCK_STREAMS: Final = text(
    "SELECT id FROM streams WHERE id = ANY(CAST(:ids AS bigint[])) ORDER BY id FOR KEY SHARE"
)

# One row order for all flushes, so that two of them wait for each other instead of deadlocking.
_ADD_TO_TOTALS: Final = text("""
INSERT INTO stream_totals AS t (stream_id, heartbeats, views, watch_seconds, bytes_out)
SELECT * FROM unnest(CAST(:stream_id AS bigint[]), CAST(:heartbeats AS bigint[]),
                     CAST(:views AS bigint[]), CAST(:watch_seconds AS bigint[]),
                     CAST(:bytes_out AS bigint[])) AS d (stream_id, h, v, w, b)
ORDER BY d.stream_id
ON CONFLICT (stream_id) DO UPDATE SET
    heartbeats = t.heartbeats + excluded.heartbeats,
    views = t.views + excluded.views,
    watch_seconds = t.watch_seconds + excluded.watch_seconds,
    bytes_out = t.bytes_out + excluded.bytes_out
""")

# Whoever changes a lease locks the live row before the session: so does a flush.
_LOCK_LIVE: Final = text("""
SELECT stream_id, stream_session_id FROM stream_live
WHERE stream_id = ANY(CAST(:ids AS bigint[])) ORDER BY stream_id FOR NO KEY UPDATE
""")

_SHOW_VIEWERS: Final = text("""
UPDATE stream_live AS l SET viewer_count = d.n
FROM unnest(CAST(:stream_id AS bigint[]), CAST(:present AS bigint[])) AS d (stream_id, n)
WHERE l.stream_id = d.stream_id AND l.stream_session_id IS NOT NULL AND l.viewer_count <> d.n
""")

_LATEST_SESSIONS: Final = text("""
SELECT w.stream_id, s.id FROM unnest(CAST(:ids AS bigint[])) AS w (stream_id)
CROSS JOIN LATERAL (
    SELECT id FROM stream_sessions WHERE stream_id = w.stream_id
    ORDER BY started_at DESC, id DESC LIMIT 1
) AS s
""")

_ADD_TO_SESSIONS: Final = text("""
UPDATE stream_sessions AS s SET
    views = s.views + d.v,
    watch_seconds = s.watch_seconds + d.w,
    bytes_out = s.bytes_out + d.b,
    peak_at = CASE WHEN d.p > s.peak_viewers THEN greatest(d.peak_at, s.started_at)
                   ELSE s.peak_at END,
    peak_viewers = greatest(s.peak_viewers, d.p)
FROM unnest(CAST(:session_id AS bigint[]), CAST(:views AS bigint[]),
            CAST(:watch_seconds AS bigint[]), CAST(:bytes_out AS bigint[]),
            CAST(:peak AS bigint[]), CAST(:peak_at AS timestamptz[])) AS d (id, v, w, b, p, peak_at)
WHERE s.id = d.id
""")


class CounterFlushRepository(Repository[CounterFlush]):
    """Receipts of flushes, and the sums they feed.

    The methods that add take columns: mappings from a column's name to its values, all of one
    length, because a statement with arrays is far faster than one with a row each.
    """

    model = CounterFlush

    def claim(self, receipt: UUID, *, flushed_at: datetime, streams: int, increments: int) -> bool:
        """Leave the receipt of a flush; return False if it is there already.

        Of two transactions that claim the same receipt the second waits for the first to end.
        """
        query = (
            insert(CounterFlush)
            .values(flush_id=receipt, flushed_at=flushed_at, streams=streams, increments=increments)
            .on_conflict_do_nothing()
            .returning(CounterFlush.flush_id)
        )
        return self.session.execute(query).first() is not None

    def lock_streams(self, stream_ids: Collection[int]) -> set[int]:
        """Return those of the streams that exist, and keep them from being deleted meanwhile."""
        rows = self.session.execute(_LOCK_STREAMS, {"ids": sorted(stream_ids)})
        return {stream_id for (stream_id,) in rows}

    def lock_sessions(self, stream_ids: Collection[int]) -> dict[int, int]:
        """Return the session of each stream that its increments belong to.

        That is the open one, or for a stream off the air the latest. Locks the live rows, so that
        none of the sessions is closed before the transaction ends.
        """
        rows = self.session.execute(_LOCK_LIVE, {"ids": sorted(stream_ids)}).all()
        sessions = {stream: session for stream, session in rows if session is not None}
        offline = sorted(set(stream_ids) - set(sessions))
        if offline:
            latest = self.session.execute(_LATEST_SESSIONS, {"ids": offline})
            sessions.update((row.stream_id, row.id) for row in latest)
        return sessions

    def add_to_totals(self, columns: Mapping[str, Sequence[int]]) -> None:
        """Add to the all-time sums: stream_id, heartbeats, views, watch_seconds, bytes_out."""
        self.session.execute(_ADD_TO_TOTALS, columns)

    def add_to_sessions(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Add to stream sessions: session_id, views, watch_seconds, bytes_out, peak, peak_at."""
        self.session.execute(_ADD_TO_SESSIONS, columns)

    def show_viewers(self, present: Mapping[int, int]) -> None:
        """Set the number of viewers of those of the streams that are on the air."""
        columns = {"stream_id": list(present), "present": list(present.values())}
        self.session.execute(_SHOW_VIEWERS, columns)

    def list_counts(self, stream_ids: Collection[int]) -> dict[int, int]:
        """Return the number of viewers of each stream as of the last flush."""
        query = select(StreamLive.stream_id, StreamLive.viewer_count)
        rows = self.session.execute(query.where(StreamLive.stream_id.in_(stream_ids)))
        return {row.stream_id: row.viewer_count for row in rows}

    def list_most_watched(self, limit: int) -> list[tuple[int, int]]:
        """Return the streams with most viewers as of the last flush, most first.

        Reads the whole table: it has no index on what changes all the time.
        """
        query = (
            select(StreamLive.stream_id, StreamLive.viewer_count)
            .where(StreamLive.viewer_count > 0)
            .order_by(StreamLive.viewer_count.desc(), StreamLive.stream_id)
        )
        return [(row[0], row[1]) for row in self.session.execute(query.limit(limit))]

    def delete_before(self, moment: datetime) -> int:
        """Delete receipts older than ``moment``; return how many."""
        query = delete(CounterFlush).where(CounterFlush.flushed_at < moment)
        old = query.returning(CounterFlush.flush_id)
        deleted = self.session.execute(old.execution_options(synchronize_session=False))
        return len(deleted.all())
