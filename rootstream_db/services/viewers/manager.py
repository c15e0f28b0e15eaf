"""The viewer manager: what players, media servers and pages tell and ask about viewers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rootstream_db.cache.tally import Tally
from rootstream_db.clock import Clock, utc_now
from rootstream_db.errors import CacheUnavailableError
from rootstream_db.services.viewers.flush import Flusher
from rootstream_db.services.viewers.presence import Presence, batched
from rootstream_db.services.viewers.values import FlushResult, Heartbeat
from rootstream_db.settings import ViewerSettings

if TYPE_CHECKING:
    from rootstream_db.cache import RedisCache
    from rootstream_db.database import Database


class ViewerManager:
    """Counts viewers in Redis and moves what they add up to into PostgreSQL.

    A viewer is present from the first heartbeat until ``leave``, or until ``presence_ttl`` has
    passed without one. Call ``flush`` every second or so from one process, or from several.

    During an outage of Redis no player notices: heartbeats answer False and are counted in
    ``dropped``, questions are answered by PostgreSQL as of the last flush. Only ``flush`` raises.

    Args:
        database: where the totals are kept.
        cache: where the present is kept.
        settings: how long silence may last, and how many streams one transaction takes.
        clock: the time; the clocks of the processes that send heartbeats should agree to within
            a second or two.
    """

    def __init__(
        self,
        database: Database,
        cache: RedisCache,
        *,
        settings: ViewerSettings | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self._database = database
        self._presence = Presence(cache, settings or ViewerSettings(), clock)
        self._flusher = Flusher(database, self._presence)
        self._tally = Tally()

    # What players tell

    def heartbeat(
        self,
        stream_id: int,
        *,
        viewer: str,
        user_id: int | None = None,
        watch_seconds: int | None = None,
        bytes_out: int = 0,
    ) -> bool:
        """Count a sign of life of ``viewer``; return whether Redis took it.

        Sent at most once: after False it is not known to be counted.

        Raises:
            ValidationError: a value is out of range.
        """
        beat = Heartbeat(stream_id, viewer, user_id, watch_seconds, bytes_out)
        return self.heartbeat_many([beat]) == 1

    def heartbeat_many(self, heartbeats: Iterable[Heartbeat]) -> int:
        """Count many signs of life in few round trips; return how many Redis took.

        Raises:
            ValidationError: a value is out of range; nothing from its batch on is sent.
        """
        taken = 0
        for some in batched(heartbeats):
            for beat in some:
                beat.check()
            taken += self._record(some)
        return taken

    def leave(self, stream_id: int, *, viewer: str) -> bool:
        """End a visit; return whether there was one, as far as Redis knows."""
        Heartbeat(stream_id, viewer).check()
        try:
            return self._presence.leave(stream_id, viewer)
        except CacheUnavailableError:
            self._tally.add("dropped")
            return False

    @property
    def dropped(self) -> int:
        """Return how many heartbeats and goodbyes this process could not tell Redis."""
        return self._tally["dropped"]

    # What pages ask

    def count(self, stream_id: int) -> int:
        """Return how many viewers a stream has at this moment."""
        try:
            return self._presence.count([stream_id])[stream_id]
        except CacheUnavailableError:
            return self._stored_counts([stream_id])[stream_id]

    def is_present(self, stream_id: int, *, viewer: str) -> bool:
        """Return whether a viewer is watching at this moment, as far as Redis knows."""
        Heartbeat(stream_id, viewer).check()
        try:
            return self._presence.is_present(stream_id, viewer)
        except CacheUnavailableError:
            return False

    def counts(self, stream_ids: Iterable[int]) -> dict[int, int]:
        """Return how many viewers the streams had at the last flush, in one command."""
        wanted = list(dict.fromkeys(stream_ids))
        try:
            return self._presence.published_counts(wanted)
        except CacheUnavailableError:
            return self._stored_counts(wanted)

    def top(self, limit: int = 10) -> list[tuple[int, int]]:
        """Return the streams with most viewers as (stream id, viewers), most first."""
        if limit <= 0:
            return []
        try:
            return self._presence.top(limit)
        except CacheUnavailableError:
            with self._database.read() as work:
                return work.counter_flushes.list_most_watched(limit)

    # What operators do

    def flush(self) -> FlushResult:
        """Move what Redis was told to PostgreSQL, exactly once whatever dies in between.

        Adds to the streams' totals and to their open sessions (or their last ones), sets the
        number of viewers shown with the live state, and makes a row of every visit that ended.
        Also finishes what other processes left behind; several may flush at once.

        Raises:
            CacheUnavailableError: Redis is down; nothing is lost that Redis does not lose.
            DatabaseUnavailableError: PostgreSQL is down; the next flush goes on from there.
        """
        return self._flusher.flush()

    def delete_old_receipts(self) -> int:
        """Delete the receipts of flushes older than a week; return how many."""
        return self._flusher.delete_old_receipts()

    def _record(self, heartbeats: Sequence[Heartbeat]) -> int:
        try:
            self._presence.record(heartbeats)
        except CacheUnavailableError:
            # Logged once per outage by the cache.
            self._tally.add("dropped", len(heartbeats))
            return 0
        return len(heartbeats)

    def _stored_counts(self, stream_ids: Sequence[int]) -> dict[int, int]:
        with self._database.read() as work:
            stored = work.counter_flushes.list_counts(stream_ids)
        return {stream_id: stored.get(stream_id, 0) for stream_id in stream_ids}
