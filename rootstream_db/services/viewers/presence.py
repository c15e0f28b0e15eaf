"""The Redis side: who is watching, what they add up to, and what is handed to a flush."""

from __future__ import annotations

import hmac
import secrets
import uuid
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from itertools import chain, islice
from typing import TYPE_CHECKING, Final, TypeVar

import orjson

from rootstream_db.cache import keys
from rootstream_db.services.viewers import lua
from rootstream_db.services.viewers.values import Heartbeat, Visit, milliseconds, parse_deltas

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rootstream_db.cache import RedisCache
    from rootstream_db.cache.keys import Key, KeySpec
    from rootstream_db.clock import Clock
    from rootstream_db.services.viewers.values import Delta
    from rootstream_db.settings import ViewerSettings

T = TypeVar("T")

BATCH: Final = 500
"""Heartbeats of one script call: 2 to 5 ms in which Redis serves nobody else."""

KEYS_REMEMBERED: Final = 20_000
"""Streams whose keys are kept rendered."""

SWEPT_AT_ONCE: Final = 500
"""Silent viewers of one stream that one script call ends."""

COUNTED_AT_ONCE: Final = 1000
"""Streams whose viewers one pipeline counts."""

_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class PendingFlush:
    """A flush that Redis holds ready; ``batch`` is fixed so that whoever goes on splits alike."""

    flush_id: uuid.UUID
    batch: int

    @classmethod
    def parse(cls, entry: bytes) -> PendingFlush:
        """Read a member of the set of flushes."""
        flush_id, _, batch = entry.decode().partition("/")
        return cls(uuid.UUID(flush_id), int(batch))

    def __str__(self) -> str:
        return f"{self.flush_id}/{self.batch}"


class Presence:
    """Presence and increments in Redis; raises ``CacheUnavailableError`` when it is down."""

    def __init__(self, cache: RedisCache, settings: ViewerSettings, clock: Clock) -> None:
        self._cache = cache
        self._clock = clock
        self._settings = settings
        self._ttl = settings.presence_ttl // _MILLISECOND
        self._beat = cache.script(lua.HEARTBEATS)
        self._leave = cache.script(lua.LEAVE)
        self._sweep = cache.script(lua.SWEEP)
        self._take = cache.script(lua.TAKE, idempotent=True)
        self._of_stream = lru_cache(KEYS_REMEMBERED)(self._render_stream)

    def record(self, heartbeats: Sequence[Heartbeat]) -> None:
        """Count heartbeats, at most ``BATCH`` of them, in one atomic step."""
        groups: dict[int, list[tuple[str, str, int, int]]] = {}
        for stream_id, viewer, user_id, watch_seconds, bytes_out in heartbeats:
            user = "" if user_id is None else str(user_id)
            reported = -1 if watch_seconds is None else watch_seconds
            groups.setdefault(stream_id, []).append((viewer, user, reported, bytes_out))
        touched = chain.from_iterable(map(self._of_stream, groups))
        shared = (keys.VIEWER_DELTA, keys.VIEWER_DUE, keys.VIEWER_BOARD, keys.VIEWER_ENDED)
        self._beat(
            [*map(self._key, shared), *touched],
            [*self._moment(), orjson.dumps([(str(one), beats) for one, beats in groups.items()])],
        )

    def leave(self, stream_id: int, viewer: str) -> bool:
        """End a visit; return whether there was one."""
        shared = (keys.VIEWER_DELTA, keys.VIEWER_ENDED, keys.VIEWER_BOARD)
        where = [*map(self._key, shared), *self._of_stream(stream_id)]
        return bool(self._leave(where, [*self._moment(), stream_id, viewer.encode()]))

    def count(self, stream_ids: Sequence[int]) -> dict[int, int]:
        """Return how many viewers each stream has at this moment."""
        oldest = milliseconds(self._clock()) - self._ttl
        counts: dict[int, int] = {}
        for some in batched(stream_ids, COUNTED_AT_ONCE):
            with self._cache.pipeline(transaction=False) as pipe:
                for stream_id in some:
                    pipe.zcount(self._of_stream(stream_id)[0], oldest, "+inf")
                counts.update(zip(some, pipe.execute(), strict=True))
        return counts

    def is_present(self, stream_id: int, viewer: str) -> bool:
        """Return whether this viewer is one of those that ``count`` counts."""
        oldest = milliseconds(self._clock()) - self._ttl
        with self._cache.pipeline(transaction=False) as pipe:
            pipe.zscore(self._of_stream(stream_id)[0], viewer.encode())
            (last,) = pipe.execute()
        return last is not None and last >= oldest

    def top(self, limit: int) -> list[tuple[int, int]]:
        """Return the streams with most viewers and their number, most first."""
        with self._cache.pipeline(transaction=False) as pipe:
            pipe.zrevrange(self._key(keys.VIEWER_BOARD), 0, limit - 1, withscores=True)
            (rows,) = pipe.execute()
        return [(int(stream_id), int(count)) for stream_id, count in rows]

    def publish_counts(self, counts: Mapping[int, int]) -> None:
        """Put the counts where ``published_counts`` finds them."""
        for some in batched(list(counts), COUNTED_AT_ONCE):
            with self._cache.pipeline(transaction=False) as pipe:
                for stream_id in some:
                    key = self._key(keys.VIEWER_COUNT, stream_id=stream_id)
                    pipe.set(key, counts[stream_id], px=key.ttl)

    def published_counts(self, stream_ids: Sequence[int]) -> dict[int, int]:
        """Return the counts of the last flush in one command; 0 for what is not known."""
        if not stream_ids:
            return {}
        with self._cache.pipeline(transaction=False) as pipe:
            pipe.mget([self._key(keys.VIEWER_COUNT, stream_id=one) for one in stream_ids])
            (values,) = pipe.execute()
        return {one: int(value or 0) for one, value in zip(stream_ids, values, strict=True)}

    def sweep(self) -> int:
        """End the visits of viewers that have fallen silent; return how many."""
        now = milliseconds(self._clock())
        with self._cache.pipeline(transaction=False) as pipe:
            pipe.zrangebyscore(self._key(keys.VIEWER_DUE), "-inf", now)
            (due,) = pipe.execute()
        return sum(self._sweep_stream(int(stream_id)) for stream_id in due)

    def pending_id(self) -> uuid.UUID | None:
        """Return under which id the increments of this moment will be flushed, if there are any."""
        name = self._cache.get_field(self._key(keys.VIEWER_DELTA), "id")
        return None if name is None else uuid.UUID(name.decode())

    def take(self, flush_id: uuid.UUID) -> bool:
        """Set the increments aside for a flush, unless another process has done so."""
        entry = PendingFlush(flush_id, self._settings.flush_batch)
        where = [
            self._key(keys.VIEWER_DELTA),
            self._key(keys.VIEWER_ENDED),
            *self._of_flush(flush_id),
            self._key(keys.VIEWER_FLUSHES),
        ]
        return bool(self._take(where, [str(flush_id), str(entry)]))

    def pending(self) -> list[PendingFlush]:
        """Return the flushes that were taken and not finished, by whomever."""
        with self._cache.pipeline(transaction=False) as pipe:
            pipe.smembers(self._key(keys.VIEWER_FLUSHES))
            (entries,) = pipe.execute()
        return sorted(map(PendingFlush.parse, entries), key=str)

    def contents(self, flush: PendingFlush) -> tuple[dict[int, Delta], list[Visit]]:
        """Return what a flush holds; nothing when another process has finished it."""
        increments, visits = self._of_flush(flush.flush_id)
        with self._cache.pipeline() as pipe:
            pipe.hgetall(increments)
            pipe.lrange(visits, 0, -1)
            fields, lines = pipe.execute()
        return parse_deltas(fields), [Visit.parse(line) for line in lines]

    def finish(self, flush: PendingFlush) -> None:
        """Forget a flush that PostgreSQL holds."""
        with self._cache.pipeline() as pipe:
            pipe.unlink(*self._of_flush(flush.flush_id))
            pipe.srem(self._key(keys.VIEWER_FLUSHES), str(flush))

    def pseudonyms(self, visits: Sequence[Visit]) -> list[bytes]:
        """Return each viewer's name of one day, which nobody can trace back without its salt."""
        days = {visit.started_at.date() for visit in visits}
        salts = {day: self._salt(day) for day in days}
        return [
            hmac.digest(salts[visit.started_at.date()], visit.viewer_bytes, "sha256")
            for visit in visits
        ]

    def _salt(self, day: date) -> bytes:
        key = self._key(keys.VIEWER_SALT, day=day.isoformat())
        with self._cache.pipeline() as pipe:
            pipe.set(key, secrets.token_hex(16), nx=True, px=key.ttl)
            pipe.get(key)
            salt: bytes = pipe.execute()[1]
        return salt

    def _sweep_stream(self, stream_id: int) -> int:
        shared = (keys.VIEWER_DELTA, keys.VIEWER_ENDED, keys.VIEWER_BOARD, keys.VIEWER_DUE)
        where = [*map(self._key, shared), *self._of_stream(stream_id)]
        total = 0
        while True:
            ended = int(self._sweep(where, [*self._moment(), stream_id, SWEPT_AT_ONCE]))
            total += ended
            if ended < SWEPT_AT_ONCE:
                return total

    def _moment(self) -> tuple[str, int, int]:
        """Return an id for new increments, the time, and how long silence is allowed to last."""
        return str(uuid.uuid4()), milliseconds(self._clock()), self._ttl

    def _render_stream(self, stream_id: int) -> tuple[Key, Key]:
        """Return the keys of a stream's viewers: when they were seen, and their visits."""
        return (
            self._key(keys.VIEWER_SEEN, stream_id=stream_id),
            self._key(keys.VIEWER_VISITS, stream_id=stream_id),
        )

    def _of_flush(self, flush_id: uuid.UUID) -> tuple[Key, Key]:
        return (
            self._key(keys.VIEWER_FLUSH, flush_id=flush_id),
            self._key(keys.VIEWER_FLUSH_VISITS, flush_id=flush_id),
        )

    def _key(self, spec: KeySpec, **parts: object) -> Key:
        return self._cache.key(spec, **parts)


def batched(items: Iterable[T], size: int = BATCH) -> Iterator[list[T]]:
    """Yield ``items`` in lists of ``size``; the last may be shorter."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
