"""Cached facts that a change puts out of use everywhere at once, however late a reader stores them.

Every fact in PostgreSQL has a version that goes up with each change. A value in Redis begins with
the version it was made of. Before a change commits, it writes a *floor*: the version to come,
without a value. Whoever reads the floor asks PostgreSQL; whoever then stores a value of an older
version, because it was read before the commit, is refused by Redis. So nothing depends on who is
faster, and a death at any point is harmless:

- before the floor: nothing was changed;
- between floor and commit: the change did not happen, and the fact is read from PostgreSQL until
  the floor's time is over;
- after the commit: the floor is there already.

While Redis cannot be reached the change commits all the same. What other processes still read from
Redis then is refused by its age, ``max_stale`` after it was read from PostgreSQL.

Values carry a MAC over key, version, age and content: who can write to Redis can make processes ask
PostgreSQL, and nothing else.
"""

from __future__ import annotations

import hmac
import logging
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from rootstream_db.cache.keys import Key
from rootstream_db.cache.scripts import milliseconds
from rootstream_db.clock import Clock
from rootstream_db.errors import CacheUnavailableError

if TYPE_CHECKING:
    from rootstream_db.cache import RedisCache

FLOOR_GRACE: Final = timedelta(minutes=5)
"""How long a commit may follow its floor at most; later ones rest on ``max_stale`` alone."""

FILL: Final = """
local held = redis.call('GET', KEYS[1])
if held and tonumber(string.sub(held, 1, 20)) and string.sub(held, 1, 20) > ARGV[1] then
    return 0
end
redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2], 'PX', ARGV[3])
return 1
"""
RAISE: Final = """
for number, key in ipairs(KEYS) do
    local floor = ARGV[number + 1]
    local held = redis.call('GET', key)
    local is_floor = held and tonumber(string.sub(held, 1, 20)) and string.sub(held, 21) == 'F'
    if is_floor and string.sub(held, 1, 20) > floor then floor = string.sub(held, 1, 20) end
    redis.call('SET', key, floor .. 'F', 'PX', ARGV[1])
end
"""
"""A value gives way whatever its version: what is not committed yet cannot have been read, so a
version as high as that is of a history that a restore of the database has cut off. A floor stays,
for the whole time of the new one: it may be that of a change which was rolled back long ago."""

DROP: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""

_HEAD: Final = struct.Struct(">20scBq")
"""Version in digits that compare as text, mark, number of the key of the MAC, age in µs."""

_ENTRY: Final = b"E"
_MAC_BYTES: Final = 16
_PAYLOAD: Final = _HEAD.size + _MAC_BYTES
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """A fact, the version of it, and when it was read from PostgreSQL at the earliest."""

    version: int
    as_of: datetime
    payload: bytes


class FencedCache:
    """Authenticated, versioned values in Redis.

    Args:
        cache: where they are.
        secrets: secrets of the MAC by number; values under an unknown one are not used.
        writer: the number of the secret that new values get.
        clock: the source of the current time.
        max_stale: how old a value may be.
    """

    def __init__(
        self,
        cache: RedisCache,
        secrets: Mapping[int, bytes],
        *,
        writer: int,
        clock: Clock,
        max_stale: timedelta,
    ) -> None:
        self.max_stale = max_stale
        self._cache = cache
        self._secrets = {number: _derived(secret) for number, secret in secrets.items()}
        self._writer = writer
        self._clock = clock
        self._fill = cache.script(FILL, idempotent=True)
        # A caller's transaction waits for it: one attempt, no retries.
        self._raise = cache.script(RAISE)
        self._drop = cache.script(DROP, idempotent=True)

    def get(self, *keys: Key) -> list[Entry | None]:
        """Return what is known of each key; None where PostgreSQL has to be asked."""
        try:
            values = self._cache.get_many(*keys)
        except CacheUnavailableError:
            return [None] * len(keys)
        return [self._opened(key, value) for key, value in zip(keys, values, strict=True)]

    def fill(self, key: Key, entry: Entry) -> bool:
        """Keep what was read from PostgreSQL, unless a change came meanwhile; tell whether."""
        version = _digits(entry.version)
        head = _HEAD.pack(version, _ENTRY, self._writer, _microseconds(entry.as_of))
        mac = self._mac(self._writer, key, head, entry.payload)
        rest = head[len(version) :] + mac + entry.payload
        try:
            return bool(self._fill([key], [version, rest, milliseconds(self.max_stale)]))
        except CacheUnavailableError:
            return False

    def raise_floors(self, floors: Mapping[Key, int]) -> bool:
        """Put all that is older than these versions out of use; tell whether Redis knows.

        If it does not, this process deletes the values before its next use of Redis, and
        ``max_stale`` is the limit for all others.
        """
        keys: Sequence[Key] = list(floors)
        life = milliseconds(self.max_stale + FLOOR_GRACE)
        try:
            self._raise(keys, [life, *(_digits(floors[key]) for key in keys)])
        except CacheUnavailableError:
            self._cache.invalidate(*keys)
            return False
        return True

    def _opened(self, key: Key, value: bytes | None) -> Entry | None:
        """Return the value if it is ours and not too old."""
        if value is None or value[20:21] != _ENTRY:
            return None
        head, mac = value[: _HEAD.size], value[_HEAD.size : _PAYLOAD]
        if len(mac) < _MAC_BYTES:
            self._reject(key, value)
            return None
        version, _, number, age = _HEAD.unpack(head)
        if number not in self._secrets:
            return None
        payload = value[_PAYLOAD:]
        if not hmac.compare_digest(mac, self._mac(number, key, head, payload)):
            self._reject(key, value)
            return None
        entry = Entry(int(version), _EPOCH + age * _MICROSECOND, payload)
        # A value from a clock that is ahead of ours ages as well.
        return entry if abs(self._clock() - entry.as_of) <= self.max_stale else None

    def _reject(self, key: Key, value: bytes) -> None:
        logger.warning("the cached value of %s was not made by this package: it was dropped", key)
        try:
            self._drop([key], [value])
        except CacheUnavailableError:
            logger.info("Redis went down before the value of %s could be dropped", key)

    def _mac(self, number: int, key: Key, head: bytes, payload: bytes) -> bytes:
        # The key ends at the first NUL and the head has one length: no two inputs look the same.
        text = b"\x00".join((key.encode(), head + payload))
        return blake2b(text, key=self._secrets[number], digest_size=_MAC_BYTES).digest()


def _derived(secret: bytes) -> bytes:
    return blake2b(secret, digest_size=32, person=b"rs-access-cache").digest()


def _digits(version: int) -> bytes:
    return b"%020d" % version


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND
