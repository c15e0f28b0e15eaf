"""Read-through caching that neither stampedes nor keeps what a writer has made stale.

On a miss one caller claims the key by writing a *lease* into it, loads, and stores the value only
if its own lease is still there. Because the lease lives in the key itself, whatever a writer does
to the key, deleting it or setting it, also takes the lease away, and the loader's value, read
before that write, is not stored. No second key can get out of step, and one key is one slot of a
cluster. A loader that dies leaves a lease that expires.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import orjson

from rootstream_db.cache.forks import watch_forks
from rootstream_db.cache.scripts import Script, milliseconds
from rootstream_db.errors import CacheUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta

    from rootstream_db.cache.link import RedisLink
    from rootstream_db.cache.tally import Tally

logger = logging.getLogger("rootstream_db.cache")

LEASE_MARK: Final = b"\x00lease:"
"""How a lease begins; no JSON text does."""

LEASE_SECONDS: Final = 3.0
"""How long a loader may take before another is allowed to load as well."""

LONGEST_WAIT_SECONDS: Final = 6.0
"""When a caller stops waiting for others and loads for itself, without storing."""

_FIRST_PAUSE_SECONDS: Final = 0.002
_LONGEST_PAUSE_SECONDS: Final = 0.05

CLAIM: Final = """
local held = redis.call('GET', KEYS[1])
if held then return held end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
"""
STORE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[3] == '' then redis.call('SET', KEYS[1], ARGV[2])
else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
"""
DROP: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


def is_lease(value: bytes | None) -> bool:
    """Return whether ``value`` is a loader's lease instead of a cached value."""
    return value is not None and value.startswith(LEASE_MARK)


class ReadThrough:
    """Serves values from Redis and loads each missing one once, among all threads and processes."""

    def __init__(self, link: RedisLink, tally: Tally) -> None:
        self._link = link
        self._tally = tally
        self._claim = Script(link, CLAIM, idempotent=True)
        self._store = Script(link, STORE, idempotent=True)
        self._drop = Script(link, DROP, idempotent=True)
        self._loading: dict[str, threading.Event] = {}
        watch_forks(self)

    def fetch(
        self,
        key: str,
        load: Callable[[], Any],
        *,
        ttl: timedelta | None,
        negative_ttl: timedelta | None,
    ) -> Any:
        """Return the value of ``key``, from Redis or from ``load``; see ``RedisCache``."""
        lease = LEASE_MARK + uuid.uuid4().hex.encode()
        try:
            held = self._value_or_claim(key, lease)
        except CacheUnavailableError:
            self._tally.add("fallbacks")
            return _plain(load())
        if held == lease:
            return self._load_and_store(key, lease, load, ttl=ttl, negative_ttl=negative_ttl)
        if is_lease(held):
            self._tally.add("wait_timeouts")
            return _plain(load())
        return self._decoded(key, held, load)

    def after_fork(self) -> None:
        """Forget the loads of the parent's threads: none of them goes on in the child."""
        self._loading = {}

    def _value_or_claim(self, key: str, lease: bytes) -> bytes:
        """Return the value, our own lease, or after the longest wait somebody else's."""
        give_up_at = time.monotonic() + LONGEST_WAIT_SECONDS
        pause = _FIRST_PAUSE_SECONDS
        while True:
            held: bytes | None = self._link.execute("GET", key)
            if held is None:
                held = bytes(self._claim([key], [lease, round(LEASE_SECONDS * 1000)]))
            if held == lease or not is_lease(held) or time.monotonic() >= give_up_at:
                return held
            self._wait(key, pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _wait(self, key: str, pause: float) -> None:
        """Wait a little, less if the loader is a thread of this process and comes to an end."""
        loading = self._loading.get(key) or threading.Event()
        loading.wait(pause * random.uniform(0.5, 1.0))

    def _load_and_store(
        self,
        key: str,
        lease: bytes,
        load: Callable[[], Any],
        *,
        ttl: timedelta | None,
        negative_ttl: timedelta | None,
    ) -> Any:
        self._tally.add("loads")
        with self._announced(key):
            try:
                text = orjson.dumps(load())
            except BaseException:
                self._give_back(key, lease)
                raise
            if text == b"null":
                self._keep_absence(key, lease, negative_ttl)
            else:
                self._keep(key, lease, text, ttl)
        return orjson.loads(text)

    @contextmanager
    def _announced(self, key: str) -> Iterator[None]:
        finished = self._loading[key] = threading.Event()
        try:
            yield
        finally:
            if self._loading.get(key) is finished:
                del self._loading[key]
            finished.set()

    def _keep_absence(self, key: str, lease: bytes, negative_ttl: timedelta | None) -> None:
        if negative_ttl is None:
            self._give_back(key, lease)
        else:
            self._keep(key, lease, b"null", negative_ttl)

    def _keep(self, key: str, lease: bytes, text: bytes, ttl: timedelta | None) -> None:
        """Store what was loaded unless somebody wrote to the key meanwhile."""
        try:
            kept = self._store([key], [lease, text, "" if ttl is None else milliseconds(ttl)])
        except CacheUnavailableError:
            self._tally.add("store_failures")
            return
        if not kept:
            self._tally.add("stores_refused")

    def _give_back(self, key: str, lease: bytes) -> None:
        try:
            self._drop([key], [lease])
        except CacheUnavailableError:
            self._tally.add("store_failures")

    def _decoded(self, key: str, text: bytes, load: Callable[[], Any]) -> Any:
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            logger.warning("the cached value of %s is not JSON; it was dropped", key)
            self._give_back(key, text)
            return _plain(load())
        self._tally.add("hits")
        return value


def _plain(value: Any) -> Any:
    """Return ``value`` as it would come back from Redis, so that callers see one shape."""
    return orjson.loads(orjson.dumps(value))
