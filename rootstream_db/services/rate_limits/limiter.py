"""The rate limiter: one round trip to Redis for each call, exact across processes."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from rootstream_db.cache.keys import RATE_LIMIT
from rootstream_db.clock import Clock, utc_now
from rootstream_db.errors import CacheUnavailableError, RateLimitedError, ValidationError
from rootstream_db.services.rate_limits.gcra import Verdict
from rootstream_db.services.rate_limits.local import LocalCounters
from rootstream_db.services.rate_limits.lua import BLOCK, DECIDE, GIVE_BACK
from rootstream_db.services.rate_limits.values import (
    Decision,
    Limit,
    WhenDown,
    check_cost,
    decision_of,
)

if TYPE_CHECKING:
    from rootstream_db.cache import RedisCache

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class RateLimiter:
    """Says whether something may happen again yet.

    A limit is counted for each ``key`` apart: an address, an account, an API key. Callers on any
    number of processes share the count; none is lost, however they race. Time is the injected
    clock's: a node whose clock is ahead sees limits recover that much earlier.

    Nothing here is part of a transaction: a call stays counted when the work it let in fails,
    unless ``give_back`` is called.

    Args:
        cache: the Redis that counts.
        clock: the source of the current time.
    """

    def __init__(self, cache: RedisCache, *, clock: Clock = utc_now) -> None:
        self._cache = cache
        self._clock = clock
        self._decide = cache.script(DECIDE)
        self._block = cache.script(BLOCK)
        self._give_back = cache.script(GIVE_BACK)
        self._local = LocalCounters()

    def check(self, key: str, limit: Limit, *, cost: int = 1) -> Decision:
        """Count a call and return what is left.

        Raises:
            CacheUnavailableError: Redis is down and the limit refuses everything then.
            RateLimitedError: too many calls; ``retry_after`` says how long to wait.
        """
        decision = self.decide(key, limit, cost=cost)
        if not decision.allowed:
            seconds = decision.retry_after.total_seconds()
            what = "is blocked" if decision.blocked else "is asked too often"
            raise RateLimitedError(
                f"{limit.name} {what}: try again in {math.ceil(seconds)} s", retry_after=seconds
            )
        return decision

    def decide(self, key: str, limit: Limit, *, cost: int = 1) -> Decision:
        """Count a call and say whether it is allowed; a refused one counts towards a block alone.

        Raises:
            CacheUnavailableError: Redis is down and the limit refuses everything then.
            ValidationError: the key is empty, or the cost never fits.
        """
        name, now = self._name(key, limit), self._now()
        check_cost(limit, cost)
        try:
            reply: list[int] = self._decide([name], _arguments(limit, now, cost))
        except CacheUnavailableError as outage:
            return self._without_redis(name, limit, outage, now=now, cost=cost)
        allowed, blocked, started, *rest = reply
        return decision_of(Verdict(bool(allowed), bool(blocked), bool(started), *rest))

    def give_back(self, key: str, limit: Limit, *, cost: int = 1) -> None:
        """Take back a call that was allowed and turned out not to count, such as a good login.

        While Redis is down nothing is given back.
        """
        name = self._name(key, limit)
        check_cost(limit, cost)
        try:
            self._give_back([name], _arguments(limit, self._now(), cost))
        except CacheUnavailableError:
            return

    def block(self, key: str, limit: Limit) -> timedelta:
        """Block a key as repeated excess would; return for how long.

        Raises:
            CacheUnavailableError: Redis is down.
            ValidationError: the limit has no block.
        """
        if limit.block is None:
            raise ValidationError(f"the limit {limit.name} has no block", field="limit")
        left: int = self._block([self._name(key, limit)], _arguments(limit, self._now(), 1))
        return left * _MICROSECOND

    def forgive(self, key: str, limit: Limit) -> None:
        """Forget what a key did: its calls, its refusals and its block.

        Raises:
            CacheUnavailableError: Redis is down.
        """
        self._cache.delete(self._name(key, limit))

    def _without_redis(
        self, name: str, limit: Limit, outage: CacheUnavailableError, *, now: int, cost: int
    ) -> Decision:
        match limit.when_down:
            case WhenDown.REFUSE:
                raise outage
            case WhenDown.ALLOW:
                return Decision(allowed=True, remaining=limit.most - cost, degraded=True)
            case WhenDown.LOCAL:
                verdict = self._local.decide(name, limit.rule, now=now, cost=cost)
                return decision_of(verdict, degraded=True)

    def _name(self, key: object, limit: Limit) -> str:
        if not isinstance(key, str) or not key:
            raise ValidationError("a rate limit needs the key of a subject", field="key")
        return self._cache.key(RATE_LIMIT, limit=limit.name, subject=key)

    def _now(self) -> int:
        return (self._clock() - _EPOCH) // _MICROSECOND


def _arguments(limit: Limit, now: int, cost: int) -> list[Any]:
    rule = limit.rule
    return [
        now,
        cost,
        rule.interval,
        rule.tolerance,
        rule.after,
        rule.within,
        rule.base,
        rule.longest,
        rule.forget,
    ]
