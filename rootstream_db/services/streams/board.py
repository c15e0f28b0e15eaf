"""The live board: what the cache and the bus are told about live streams, after the commit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rootstream_db.cache.keys import LIVE_STATUS
from rootstream_db.errors import CacheUnavailableError
from rootstream_db.services.streams.values import LiveStatus
from rootstream_db.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    from rootstream_db.cache import EventBus, RedisCache


class LiveBoard:
    """Keeps live status in the cache and tells subscribers of ``stream.<id>`` about changes.

    Writers of several processes may cross after their commits, and Redis may be down: what the
    board shows can be late. It cannot stay wrong: each status carries the times of its lease, and
    every heartbeat writes it anew.
    """

    def __init__(self, cache: RedisCache, bus: EventBus) -> None:
        self._cache = cache
        self._bus = bus

    def show(self, work: UnitOfWork, status: LiveStatus) -> None:
        """Put the status up once ``work`` has committed."""
        work.after_commit(lambda: self._store(status), name="live status")

    def announce(self, work: UnitOfWork, status: LiveStatus, event_type: str) -> None:
        """Put the status up and tell subscribers what happened, once ``work`` has committed."""
        self.show(work, status)
        message = {"type": event_type, **status.as_dict()}
        topic = f"stream.{status.stream_id}"
        work.after_commit(lambda: self._publish(topic, message), name="live broadcast")

    def forget(self, work: UnitOfWork, stream_id: int) -> None:
        """Take the status down once ``work`` has committed."""
        key = self._cache.key(LIVE_STATUS, stream_id=stream_id)
        work.after_commit(lambda: self._cache.invalidate(key), name="live status")

    def read(self, stream_id: int, load: Callable[[], LiveStatus | None]) -> LiveStatus | None:
        """Return the status on the board, or what ``load`` finds."""
        key = self._cache.key(LIVE_STATUS, stream_id=stream_id)
        found = self._cache.read_through(key, lambda: _as_data(load()))
        return None if found is None else LiveStatus.from_dict(found)

    def _store(self, status: LiveStatus) -> None:
        key = self._cache.key(LIVE_STATUS, stream_id=status.stream_id)
        try:
            self._cache.set_json(key, status.as_dict())
        except CacheUnavailableError:
            # Counted and logged by the cache. What is there now is older than this, so it is
            # forgotten as soon as Redis is back.
            self._cache.invalidate(key)

    def _publish(self, topic: str, message: dict[str, Any]) -> None:
        # Counted and logged by the bus. Who must not miss anything reads the events instead.
        with suppress(CacheUnavailableError):
            self._bus.publish(topic, message)


def _as_data(status: LiveStatus | None) -> dict[str, Any] | None:
    return None if status is None else status.as_dict()
