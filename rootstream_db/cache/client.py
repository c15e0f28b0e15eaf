"""The Redis cache: typed commands, transactions, scripts and read-through values."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import orjson

from rootstream_db.cache.forks import watch_forks
from rootstream_db.cache.keys import Key, Keys, KeySpec
from rootstream_db.cache.link import RedisLink
from rootstream_db.cache.read_through import LEASE_MARK, ReadThrough, is_lease
from rootstream_db.cache.scripts import Script, milliseconds
from rootstream_db.cache.tally import Tally
from rootstream_db.errors import CacheUnavailableError, StorageError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType
    from typing import Self

    import redis
    from redis.client import Pipeline

    from rootstream_db.settings import CacheSettings, RedisSettings

Value: TypeAlias = str | bytes | int | float
"""What Redis stores; it comes back as bytes."""

FROM_KEY: Final = timedelta(seconds=-1)
"""Marks a TTL argument that was not given: the key's own TTL holds."""

MOST_REMEMBERED: Final = 10_000
"""Invalidations kept for the end of an outage; beyond it the values' TTLs must do."""

EXISTS: Final = """
if redis.call('TYPE', KEYS[1]).ok ~= 'string' then return redis.call('EXISTS', KEYS[1]) end
if redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) == ARGV[1] then return 0 end
return 1
"""


@dataclass(frozen=True, slots=True)
class CachePing:
    """A sign of life: how long it took and which server gave it."""

    latency_seconds: float
    server_version: str


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What the cache did since it was made.

    Attributes:
        hits: values served from Redis.
        loads: values loaded on a miss, to be stored.
        fallbacks: values loaded without Redis, because it was down.
        wait_timeouts: values loaded because another loader took too long.
        stores_refused: loaded values not stored because the key was written meanwhile.
        store_failures: loaded values not stored because Redis went down meanwhile.
        invalidations_delayed: invalidations kept for the end of an outage.
    """

    hits: int
    loads: int
    fallbacks: int
    wait_timeouts: int
    stores_refused: int
    store_failures: int
    invalidations_delayed: int


class RedisCache:
    """The cache; unless a method says otherwise it raises ``CacheUnavailableError`` in an outage.

    During an outage calls fail at once: one a second tries whether Redis is back.
    Commands that may run twice are retried when a connection breaks; ``increment``, ``push``,
    ``pop``, pipelines and scripts are sent at most once.

    Args:
        settings: where Redis is.
        ttls: how long each kind of value lives.
    """

    def __init__(self, settings: RedisSettings, *, ttls: CacheSettings) -> None:
        self.keys = Keys(settings.key_prefix, ttls)
        self._link = RedisLink(settings, purpose="cache", on_recovery=self._invalidate_remembered)
        self._tally = Tally()
        self._read_through = ReadThrough(self._link, self._tally)
        self._exists = Script(self._link, EXISTS, idempotent=True)
        self._remembered: set[str] = set()
        self._remembering = threading.Lock()
        watch_forks(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"RedisCache({self._link.address})"

    # Values

    def key(self, spec: KeySpec, **parts: object) -> Key:
        """Return the key of one row of the key table, e.g. ``key(LIVE_STATUS, stream_id=7)``."""
        return self.keys.key(spec, **parts)

    def set(self, key: str, value: Value, *, ttl: timedelta | None = FROM_KEY) -> None:
        """Store ``value``; without ``ttl`` it lives as long as the key table says."""
        if isinstance(value, bytes | str) and value[:1] in {b"\x00", "\x00"}:
            raise ValidationError("a cached value cannot begin with a NUL byte", field="value")
        self._link.execute("SET", key, value, *_expiry(key, ttl))

    def get(self, key: str) -> bytes | None:
        """Return the value of ``key``, or None."""
        value: bytes | None = self._link.execute("GET", key)
        return None if is_lease(value) else value

    def get_many(self, *keys: str) -> list[bytes | None]:
        """Return the values of several keys, read at one moment."""
        values: list[bytes | None] = self._link.execute("MGET", *keys) if keys else []
        return [None if is_lease(value) else value for value in values]

    def set_json(self, key: str, value: Any, *, ttl: timedelta | None = FROM_KEY) -> None:
        """Store ``value`` as JSON."""
        self.set(key, orjson.dumps(value), ttl=ttl)

    def get_json(self, key: str) -> Any:
        """Return the JSON value of ``key``, or None when there is none."""
        text = self.get(key)
        if text is None:
            return None
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise StorageError(f"the value of {key} is not JSON", key=key) from error

    def increment(self, key: str, by: int = 1) -> int:
        """Add to the number at ``key``, starting from 0, and return the sum; sent at most once."""
        return int(self._link.execute_once("INCRBY", key, by))

    def read_through(
        self,
        key: str,
        load: Callable[[], Any],
        ttl: timedelta | None = FROM_KEY,
        *,
        negative_ttl: timedelta | None = None,
    ) -> Any:
        """Return the JSON value of ``key``; if there is none call ``load`` and keep its result.

        Never fails because of Redis: when it is down, ``load`` answers (counted in ``fallbacks``).

        Among concurrent callers in all processes one loads and the others wait for it: at most 3
        seconds for one that died, at most 6 in all, then each loads for itself. A value is not
        stored when the key was set, deleted or invalidated after its loader began, nor when
        ``load`` raises. The result is what JSON makes of it, whether loaded or cached.

        Args:
            key: made by ``key()``, which knows the TTL.
            load: reads the value from its source; returns JSON-ready data, or None for absent.
            ttl: replaces the key's own TTL.
            negative_ttl: how long an absence is remembered; not at all when None.
        """
        life = _ttl(key, ttl)
        return self._read_through.fetch(key, load, ttl=life, negative_ttl=negative_ttl)

    # Keys

    def delete(self, *keys: str) -> int:
        """Delete keys and return how many there were; a load in progress will not be stored."""
        return int(self._link.execute("DEL", *keys)) if keys else 0

    def invalidate(self, *keys: str) -> None:
        """Forget cached values after their source changed; never raises because Redis is down.

        What cannot be deleted now is deleted by this process before its first use of Redis after
        the outage. Should the process end before that, the values' TTL is the limit.
        """
        try:
            self.delete(*keys)
        except CacheUnavailableError:
            self._tally.add("invalidations_delayed", len(keys))
            with self._remembering:
                room = MOST_REMEMBERED - len(self._remembered)
                self._remembered.update(keys[:room])

    def exists(self, key: str) -> bool:
        """Return whether ``key`` has a value."""
        return bool(self._exists([key], [LEASE_MARK]))

    def expire(self, key: str, ttl: timedelta) -> bool:
        """Let ``key`` end after ``ttl``; return whether there was such a key."""
        return bool(self._link.execute("PEXPIRE", key, milliseconds(ttl)))

    def ttl(self, key: str) -> timedelta | None:
        """Return how long ``key`` still lives: zero when there is none, None when for ever."""
        left = int(self._link.execute("PTTL", key))
        if left == -1:
            return None
        return timedelta(milliseconds=max(left, 0))

    # Hashes

    def set_field(self, key: str, field: str, value: Value) -> None:
        """Set one field of a hash."""
        self._link.execute("HSET", key, field, value)

    def set_fields(
        self, key: str, fields: Mapping[str, Value], *, ttl: timedelta | None = FROM_KEY
    ) -> None:
        """Set several fields of a hash and, if one is known, the hash's TTL."""
        if not fields:
            return
        flat = [item for pair in fields.items() for item in pair]
        life = _ttl(key, ttl)
        with self._link.guarded(), self._link.steady.pipeline(transaction=True) as pipe:
            pipe.execute_command("HSET", key, *flat)
            if life is not None:
                pipe.execute_command("PEXPIRE", key, milliseconds(life))
            pipe.execute()

    def get_field(self, key: str, field: str) -> bytes | None:
        """Return one field of a hash, or None."""
        value: bytes | None = self._link.execute("HGET", key, field)
        return value

    def get_fields(self, key: str) -> dict[str, bytes]:
        """Return all fields of a hash; empty when there is none."""
        fields: dict[bytes, bytes] = self._link.execute("HGETALL", key)
        return {name.decode(): value for name, value in fields.items()}

    def delete_field(self, key: str, *fields: str) -> int:
        """Delete fields of a hash and return how many there were."""
        return int(self._link.execute("HDEL", key, *fields)) if fields else 0

    # Lists

    def push(self, key: str, *values: Value) -> int:
        """Add to the end of a queue and return its length; sent at most once."""
        if not values:
            return self.length(key)
        return int(self._link.execute_once("LPUSH", key, *values))

    def pop(self, key: str) -> bytes | None:
        """Take what was pushed first, or None; sent at most once."""
        value: bytes | None = self._link.execute_once("RPOP", key)
        return value

    def length(self, key: str) -> int:
        """Return how many values a queue holds."""
        return int(self._link.execute("LLEN", key))

    # Several commands at once

    @contextmanager
    def pipeline(self, *, transaction: bool = True) -> Iterator[Pipeline]:
        """Collect commands in the block and send them together when it ends, at most once.

        With ``transaction`` they run as MULTI/EXEC: all or none, nothing in between. An exception
        in the block sends nothing. Call ``execute()`` in the block to see the replies.
        """
        with self._link.guarded(), self._link.once.pipeline(transaction=transaction) as pipe:
            yield pipe
            if len(pipe):
                pipe.execute()

    def script(self, lua: str, *, idempotent: bool = False) -> Script:
        """Return ``lua`` as a callable taking ``keys`` and ``args``.

        Args:
            lua: the text; it must touch only the keys it is given.
            idempotent: whether a second run does no harm; otherwise it is sent at most once.
        """
        return Script(self._link, lua, idempotent=idempotent)

    # The connection

    @property
    def client(self) -> redis.Redis:
        """Return redis-py's client, for what is missing here; its errors are redis-py's."""
        return self._link.steady

    @property
    def is_available(self) -> bool:
        """Return whether Redis served the last call; asks nothing."""
        return not self._link.circuit.is_open

    @property
    def fallbacks(self) -> int:
        """Return how many reads were loaded without Redis because it was down."""
        return self._tally["fallbacks"]

    def stats(self) -> CacheStats:
        """Return the counters."""
        return CacheStats(**{name: self._tally[name] for name in CacheStats.__slots__})

    def ping(self) -> CachePing:
        """Ask Redis for a sign of life, without retries and even during an outage."""
        latency = self._link.ping()
        facts: dict[str, Any] = self._link.execute("INFO", "server")
        version = facts.get("valkey_version") or facts.get("redis_version")
        return CachePing(latency, f"{facts.get('server_name', 'redis')} {version}")

    def close(self) -> None:
        """Close all connections; a later call opens new ones."""
        self._link.close()

    def after_fork(self) -> None:
        """Replace a lock that another thread of the parent may have held."""
        self._remembering = threading.Lock()

    def _invalidate_remembered(self) -> None:
        """Delete what could not be deleted during the outage, before anything is read."""
        with self._remembering:
            keys, self._remembered = self._remembered, set()
        try:
            if keys:
                self._link.once.execute_command("DEL", *keys)
        except Exception:
            with self._remembering:
                self._remembered |= keys
            raise


def _ttl(key: str, ttl: timedelta | None) -> timedelta | None:
    if ttl is FROM_KEY:
        return key.ttl if isinstance(key, Key) else None
    return ttl


def _expiry(key: str, ttl: timedelta | None) -> tuple[str | int, ...]:
    life = _ttl(key, ttl)
    return () if life is None else ("PX", milliseconds(life))
