"""What a limit is, what it decides, and what holds while Redis is down."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from rootstream_db.errors import ValidationError
from rootstream_db.services.rate_limits.gcra import Rule, Verdict

_MICROSECOND: Final = timedelta(microseconds=1)
_LONGEST: Final = timedelta(days=366)


class WhenDown(StrEnum):
    """What a limit decides while Redis cannot be reached."""

    ALLOW = "allow"
    """Everything is allowed: for limits that save work, where refusing would do more harm."""
    REFUSE = "refuse"
    """The outage's error reaches the caller: for limits that are the only protection."""
    LOCAL = "local"
    """Each process counts for itself: N processes allow N times the rate, and no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """How a limit answers those who go on after they were refused.

    Attributes:
        after: refusals that start a block.
        within: refusals are counted in this time from the first one on.
        base: length of the first block; each further one is twice as long.
        longest: length that no block exceeds.
        forget: quiet time after a block that makes the next one a first one again.
    """

    after: int
    within: timedelta
    base: timedelta
    longest: timedelta = timedelta(days=1)
    forget: timedelta = timedelta(days=1)

    def __post_init__(self) -> None:
        _check_count(self.after, "after")
        for name in ("within", "base", "longest", "forget"):
            _check_time(getattr(self, name), name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How often something may happen.

    Attributes:
        name: what is limited; a part of the keys in Redis.
        rate: calls allowed in ``per``.
        per: see ``rate``.
        burst: calls allowed at once after a pause; ``rate`` unless given.
        block: what repeated excess leads to, if anything.
        when_down: what holds while Redis cannot be reached.
    """

    name: str
    rate: int
    per: timedelta
    burst: int | None = None
    block: Block | None = None
    when_down: WhenDown = WhenDown.LOCAL

    def __post_init__(self) -> None:
        if not self.name:
            raise ValidationError("a limit needs a name", field="name")
        _check_count(self.rate, "rate")
        _check_time(self.per, "per")
        if self.burst is not None:
            _check_count(self.burst, "burst")

    @property
    def most(self) -> int:
        """Return how many calls are allowed at once."""
        return self.rate if self.burst is None else self.burst

    @property
    def rule(self) -> Rule:
        """Return the limit in microseconds, rounded so that never more is allowed."""
        interval = -(-_microseconds(self.per) // self.rate)
        block = self.block
        if block is None:
            return Rule(interval, interval * self.most)
        return Rule(
            interval,
            interval * self.most,
            after=block.after,
            within=_microseconds(block.within),
            base=_microseconds(block.base),
            longest=_microseconds(block.longest),
            forget=_microseconds(block.forget),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a limit says of one call.

    Attributes:
        allowed: whether it may go on.
        blocked: whether it is refused because of a block.
        block_started: whether this very refusal started the block.
        remaining: how many more calls are allowed at once.
        retry_after: how long until the same call would be allowed.
        reset_after: how long until the whole burst is there again.
        degraded: whether Redis was down, so that the limit's ``when_down`` decided.
    """

    allowed: bool
    blocked: bool = False
    block_started: bool = False
    remaining: int
    retry_after: timedelta = timedelta(0)
    reset_after: timedelta = timedelta(0)
    degraded: bool = False


def decision_of(verdict: Verdict, *, degraded: bool = False) -> Decision:
    """Return a verdict in the units callers use."""
    return Decision(
        allowed=verdict.allowed,
        blocked=verdict.blocked,
        block_started=verdict.block_started,
        remaining=verdict.remaining,
        retry_after=verdict.retry_after * _MICROSECOND,
        reset_after=verdict.reset_after * _MICROSECOND,
        degraded=degraded,
    )


def check_cost(limit: Limit, cost: int) -> int:
    """Return the cost of a call.

    Raises:
        ValidationError: it is not positive, or more than the limit ever allows at once.
    """
    _check_count(cost, "cost")
    if cost > limit.most:
        raise ValidationError(
            f"a call that costs {cost} is never allowed: {limit.name} allows {limit.most} at once",
            field="cost",
        )
    return cost


def _microseconds(length: timedelta) -> int:
    return length // _MICROSECOND


def _check_count(value: object, field: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValidationError(f"{field} is a whole number from 1 on, not {value!r}", field=field)


def _check_time(value: timedelta, field: str) -> None:
    if not _MICROSECOND <= value <= _LONGEST:
        raise ValidationError(f"{field} lies between 1 µs and a year, not {value}", field=field)
