"""The generic cell rate algorithm with blocks, as a pure function of a state and a time.

This is what the Lua script does in Redis and what a process does for itself while Redis is down.
All times are whole microseconds, so that both count exactly alike.

A state remembers one moment, ``busy_until``: up to when the calls allowed so far have used up the
rate. A call is allowed if it moves that moment no further than ``tolerance`` ahead of now, which
means: a burst of ``tolerance / interval`` calls at once, then one every ``interval``. In no span of
time are more calls allowed than the burst plus what the rate gives for that span.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Rule:
    """A limit in microseconds and counts.

    Attributes:
        interval: what one call uses up.
        tolerance: how far ahead of now calls may go.
        after: refusals that start a block; 0 for none.
        within: refusals further apart than this count anew.
        base: length of the first block; each further one is twice as long.
        longest: length that no block exceeds.
        forget: quiet time after a block that makes the next one a first one again.
    """

    interval: int
    tolerance: int
    after: int = 0
    within: int = 0
    base: int = 0
    longest: int = 0
    forget: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """What is remembered of a subject; the default is somebody who never called."""

    busy_until: int = 0
    refusals: int = 0
    refusals_since: int = 0
    blocks: int = 0
    blocked_until: int = 0

    def forgettable_at(self, rule: Rule) -> int:
        """Return from when on the state says no more than that of somebody who never called."""
        ends = self.blocked_until + rule.forget if self.blocked_until else 0
        counts = self.refusals_since + rule.within if self.refusals else 0
        return max(self.busy_until, counts, ends)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of one call.

    Attributes:
        allowed: whether it may go on.
        blocked: whether it is refused because of a block.
        block_started: whether this very refusal started the block.
        remaining: how many calls would be allowed right now.
        retry_after: microseconds until the same call would be allowed; 0 when it is.
        reset_after: microseconds until the whole burst is there again.
    """

    allowed: bool
    blocked: bool
    block_started: bool
    remaining: int
    retry_after: int
    reset_after: int


def decide(rule: Rule, state: State, *, now: int, cost: int = 1) -> tuple[State, Verdict]:
    """Return the state after a call that costs ``cost``, and whether it is allowed."""
    # A clock that was set back must not close the door for longer than the limit itself can.
    busy_until = min(max(state.busy_until, now), now + rule.tolerance)
    ahead = busy_until - now
    if state.blocked_until > now:
        wait = state.blocked_until - now
        return state, Verdict(False, True, False, 0, wait, max(wait, ahead))
    after_call = ahead + cost * rule.interval
    if after_call <= rule.tolerance:
        left = (rule.tolerance - after_call) // rule.interval
        verdict = Verdict(True, False, False, left, 0, after_call)
        return replace(state, busy_until=now + after_call), verdict
    return _refused(rule, state, now=now, ahead=ahead, missing=after_call - rule.tolerance)


def _refused(
    rule: Rule, state: State, *, now: int, ahead: int, missing: int
) -> tuple[State, Verdict]:
    left = (rule.tolerance - ahead) // rule.interval
    if rule.after == 0:
        return state, Verdict(False, False, False, left, missing, ahead)
    fresh = state.refusals == 0 or now >= state.refusals_since + rule.within
    refusals, since = (1, now) if fresh else (state.refusals + 1, state.refusals_since)
    if refusals < rule.after:
        counted = replace(state, refusals=refusals, refusals_since=since)
        return counted, Verdict(False, False, False, left, missing, ahead)
    blocked = block(rule, state, now=now)
    wait = blocked.blocked_until - now
    return blocked, Verdict(False, True, True, 0, wait, max(wait, ahead))


def block(rule: Rule, state: State, *, now: int) -> State:
    """Return the state with its next block, twice as long as the one before unless that is old."""
    blocks = 0 if now >= state.blocked_until + rule.forget else state.blocks
    # Beyond 2**40 every base has passed every limit.
    length = min(rule.base * 2 ** min(blocks, 40), rule.longest)
    until = max(state.blocked_until, now + length)
    return replace(state, refusals=0, refusals_since=0, blocks=blocks + 1, blocked_until=until)


def give_back(rule: Rule, state: State, *, now: int, cost: int = 1) -> State:
    """Return the state as if a call that was allowed had not been made."""
    if state.busy_until <= now:
        return state
    return replace(state, busy_until=max(state.busy_until - cost * rule.interval, now))
