"""What Redis holds of sessions: entries and marks, and how one takes the place of another.

One key a session. Its value is an entry (``entry.py``) or a mark of one letter:

- ``X`` the session is over; ``R`` it is over because another one took its place.
- ``P`` somebody is about to end it: PostgreSQL knows, and nothing may be put here meanwhile.
- ``N`` there is no such session; for a few seconds.

Three rules keep a dead session dead. Marks are set whatever is there. Entries are put only where
nothing is, so that a reader who asked PostgreSQL before the end cannot bring the session back
after it. And what is there is replaced only by whoever names it exactly.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from rootstream_db.cache.held import HeldConnections
from rootstream_db.cache.keys import SESSION, Keys
from rootstream_db.cache.link import RedisLink
from rootstream_db.cache.scripts import Script, milliseconds
from rootstream_db.services.sessions.entry import Entry, microseconds, moment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rootstream_db.clock import Clock
    from rootstream_db.settings import CacheSettings, RedisSettings, SessionSettings

OVER: Final = b"X"
REPLACED: Final = b"R"
ENDING: Final = b"P"
ABSENT: Final = b"N"

_ABSENCE: Final = timedelta(seconds=5)
_LONGEST_UNIT: Final = timedelta(minutes=2)
"""Longest that a unit of work may go on after it marked a session.

A longer one loses the mark before it commits; then ``max_stale`` is the limit.
"""

_DIGEST_HEX: Final = 64
_SCAN_BATCH: Final = 1000
_REPLACE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""
_REMOVE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""


class SessionStore:
    """Gets and puts; every method raises ``CacheUnavailableError`` in an outage.

    Attributes:
        trusted_from: entries that were checked before this moment are to be checked again, because
            Redis was lost in between and may have missed the end of a session.
        losses: how often Redis was lost.
    """

    def __init__(
        self,
        redis: RedisSettings,
        settings: SessionSettings,
        *,
        ttls: CacheSettings,
        clock: Clock,
    ) -> None:
        quick = redis.model_copy(update={"socket_timeout": settings.redis_timeout})
        self.trusted_from = 0
        self.losses = 0
        self._clock = clock
        self._link = RedisLink(quick, purpose="sessions", on_recovery=self._lost)
        pattern = Keys(redis.key_prefix, ttls).key(SESSION, **dict.fromkeys(SESSION.parts, "x"))
        self._prefix = pattern.removesuffix("x")
        self._prefix_bytes = self._prefix.encode()
        self._held = HeldConnections(
            self._link,
            key_length=len(self._prefix_bytes) + _DIGEST_HEX,
            most=max(redis.max_connections // 2, 1),
            on_loss=self._lost,
        )
        self._replace = Script(self._link, _REPLACE, idempotent=True)
        self._remove = Script(self._link, _REMOVE, idempotent=True)
        self._entry_ttl = ttls.session_ttl
        # A mark outlives every entry it may have to keep out.
        self._mark_ttl = milliseconds(ttls.session_ttl + settings.max_stale + _LONGEST_UNIT)
        self._ending_ttl = milliseconds(settings.max_stale + _LONGEST_UNIT)

    @property
    def is_available(self) -> bool:
        """Return whether Redis served the last call; asks nothing."""
        return not self._link.circuit.is_open

    def get(self, digest: bytes) -> bytes | None:
        """Return the entry or the mark of a session, or None."""
        return self._held.get(self._key_bytes(digest))

    def fill(self, digest: bytes, value: bytes, entry: Entry) -> None:
        """Put an entry where nothing is."""
        self._held.put_new(self._key_bytes(digest), value, self._life(entry))

    def renew(self, digest: bytes, *, old: bytes, value: bytes, entry: Entry) -> None:
        """Put an entry where ``old`` is."""
        self._replace([self._key(digest)], [old, value, self._life(entry)])

    def discard(self, digest: bytes, old: bytes) -> None:
        """Remove what is there if it is ``old``."""
        self._remove([self._key(digest)], [old])

    def note_absence(self, digest: bytes) -> None:
        """Remember for a few seconds that there is no such session."""
        life = milliseconds(_ABSENCE)
        self._link.execute("SET", self._key(digest), ABSENT, "PX", life, "NX")

    def mark_ending(self, digests: Iterable[bytes]) -> None:
        """Say that these sessions are about to end."""
        self._mark(digests, ENDING, self._ending_ttl)

    def mark_over(self, digests: Iterable[bytes], *, replaced: bool = False) -> None:
        """Say that these sessions are over, whatever is there."""
        self._mark(digests, REPLACED if replaced else OVER, self._mark_ttl)

    def forget_all(self) -> int:
        """Remove everything about sessions and return how many keys that were."""
        removed = 0
        literal = "".join(f"\\{sign}" if sign in "*?[]\\^" else sign for sign in self._prefix)
        with self._link.guarded():
            batch: list[bytes] = []
            for key in self._link.steady.scan_iter(match=f"{literal}*", count=_SCAN_BATCH):
                batch.append(key)
                if len(batch) == _SCAN_BATCH:
                    removed += self._unlink(batch)
                    batch.clear()
            removed += self._unlink(batch)
        return removed

    def close(self) -> None:
        """Close all connections."""
        self._held.close()
        self._link.close()

    def _mark(self, digests: Iterable[bytes], mark: bytes, life: int) -> None:
        keys = [self._key(digest) for digest in digests]
        if not keys:
            return
        with self._link.guarded(), self._link.steady.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.execute_command("SET", key, mark, "PX", life)
            pipe.execute()

    def _unlink(self, keys: list[bytes]) -> int:
        return int(self._link.steady.execute_command("UNLINK", *keys)) if keys else 0

    def _key(self, digest: bytes) -> str:
        return self._prefix + digest.hex()

    def _key_bytes(self, digest: bytes) -> bytes:
        return self._prefix_bytes + digest.hex().encode()

    def _life(self, entry: Entry) -> int:
        left = moment(entry.idle_expires_at) - self._clock()
        return milliseconds(min(left, self._entry_ttl))

    def _lost(self) -> None:
        self.losses += 1
        self.trusted_from = microseconds(self._clock())
