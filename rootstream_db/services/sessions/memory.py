"""Sessions in the process's own memory, for a moment, while somebody says when they end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rootstream_db.cache.forks import watch_forks
from rootstream_db.services.sessions.endings import TOPIC
from rootstream_db.services.sessions.entry import Entry, span

if TYPE_CHECKING:
    from datetime import timedelta

    from rootstream_db.cache import EventBus

MOST: Final = 10_000
"""Sessions kept; when there are more, all are dropped."""


class SessionMemory:
    """Keeps entries that were just read from Redis.

    It is used only while the subscription to endings stands; what came before an ending is dropped
    with it, and everything when messages may have been missed. Should a message get lost all the
    same, an entry lives for ``ttl``.

    Args:
        bus: where endings are announced.
        ttl: how long an entry is kept.
    """

    def __init__(self, bus: EventBus, *, ttl: timedelta) -> None:
        self._ttl = span(ttl)
        self._entries: dict[bytes, tuple[Entry, int]] = {}
        self._drops = 0
        bus.on_reconnect(self.clear)
        self._subscription = bus.subscribe(TOPIC, self._ended)
        watch_forks(self)

    def begin(self) -> int:
        """Return what ``keep`` needs to know: how many endings there were when reading began."""
        return self._drops

    def get(self, digest: bytes, now: int) -> Entry | None:
        """Return an entry that is fresh enough."""
        kept = self._entries.get(digest)
        if kept is None or not 0 <= now - kept[1] < self._ttl:
            return None
        return kept[0] if self._subscription.is_active else None

    def keep(self, digest: bytes, entry: Entry, now: int, *, begun: int) -> None:
        """Keep an entry, unless something ended while it was being read."""
        if begun != self._drops or not self._subscription.is_active:
            return
        if len(self._entries) >= MOST:
            self._entries = {}
        self._entries[digest] = (entry, now)
        if begun != self._drops:
            self._entries.pop(digest, None)

    def drop(self, digest: bytes) -> None:
        """Forget one session."""
        self._drops += 1
        self._entries.pop(digest, None)

    def clear(self) -> None:
        """Forget all sessions."""
        self._drops += 1
        self._entries = {}

    def close(self) -> None:
        """Stop listening."""
        self._subscription.close()
        self.clear()

    def after_fork(self) -> None:
        """Start empty in a child, whose own subscription begins later."""
        self.clear()

    def _ended(self, _topic: str, message: dict[str, Any]) -> None:
        if message.get("everybody"):
            self.clear()
        for digest in message.get("digests", ()):
            self.drop(bytes.fromhex(digest))
