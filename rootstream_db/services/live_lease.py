"""Who may publish a stream: the lease's decisions, from values to values.

A stream session is open from its start until it is stopped, its key is revoked, or its publisher
has been gone for longer than the grace. While it is open, time alone moves it through phases::

    HELD ──lease runs out──▶ LAPSED ──grace runs out──▶ OVER
      └──connection closed──▶ GRACE ──grace runs out──▶ OVER

A phase is read from the stored times and the clock, never from whether the reaper has come by:
a late, early or missing reaper changes when something is announced, not what is decided. Every
decision that says no carries its reason as text.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class Phase(StrEnum):
    """Where a stream stands at one moment."""

    OFFLINE = "offline"
    """No session is open."""
    HELD = "held"
    """A publisher holds the lease; everybody else is refused."""
    LAPSED = "lapsed"
    """The lease ran out unrenewed; its holder may renew it, any valid key may resume."""
    GRACE = "grace"
    """The publisher said goodbye; any valid key may resume, the old holder may not."""
    OVER = "over"
    """The grace ran out; the session is still open only because nobody has closed it yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseState:
    """What is stored about a stream's lease."""

    epoch: int = 0
    owner: str | None = None
    expires_at: datetime | None = None
    grace_until: datetime | None = None
    session_id: int | None = None

    def phase(self, now: datetime) -> Phase:
        """Return where the stream stands at ``now``."""
        if self.session_id is None or self.grace_until is None:
            return Phase.OFFLINE
        if self.expires_at is not None and now < self.expires_at:
            return Phase.HELD
        if now >= self.grace_until:
            return Phase.OVER
        return Phase.GRACE if self.expires_at is None else Phase.LAPSED


@dataclass(frozen=True, slots=True)
class Terms:
    """How long a lease granted or renewed now holds, and how long its session survives it."""

    expires_at: datetime
    grace_until: datetime


def terms(now: datetime, *, ttl: timedelta, grace: timedelta) -> Terms:
    """Return the terms of a lease granted at ``now``."""
    expires_at = now + ttl
    return Terms(expires_at, expires_at + grace)


class StartAction(StrEnum):
    """What a request to publish leads to."""

    NEW = "new"
    """Open a session."""
    RESUME = "resume"
    """Go on with the open session under a new epoch."""
    REPEAT = "repeat"
    """The holder asked again: same lease, nothing changes."""
    SUPERSEDE = "supersede"
    """Close the session whose grace is over, then open a new one."""
    REFUSE = "refuse"
    """Somebody else holds the lease."""


@dataclass(frozen=True, slots=True)
class StartDecision:
    """The answer to a request to publish; ``epoch`` is the one it would hold."""

    action: StartAction
    epoch: int
    reason: str


def decide_start(state: LeaseState, *, owner: str, now: datetime) -> StartDecision:
    """Decide whether ``owner`` may publish now.

    The same owner asking again while it holds the lease is a duplicated request (a hook delivered
    twice, a retry after a lost answer) and gets the lease it has.
    """
    following = state.epoch + 1
    match state.phase(now):
        case Phase.OFFLINE:
            return StartDecision(StartAction.NEW, following, "the stream is offline")
        case Phase.OVER:
            return StartDecision(StartAction.SUPERSEDE, following, _ended_text(state))
        case Phase.LAPSED | Phase.GRACE:
            reason = f"the session may be resumed until {_text(state.grace_until)}"
            return StartDecision(StartAction.RESUME, following, reason)
    if state.owner == owner:
        return StartDecision(StartAction.REPEAT, state.epoch, "the caller already holds the lease")
    reason = f"{state.owner} holds the lease until {_text(state.expires_at)}"
    return StartDecision(StartAction.REFUSE, state.epoch, reason)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a holder's request is granted, and if not, why."""

    accepted: bool
    reason: str


def decide_heartbeat(state: LeaseState, *, epoch: int, now: datetime) -> Verdict:
    """Decide whether the holder of ``epoch`` may renew its lease.

    A lapsed lease may be renewed by its own holder as long as nobody took over: a publisher that
    paused for longer than the lease is not thrown out, it only could have been. Once the grace is
    over, or after the holder disconnected, it must start again.
    """
    if state.epoch != epoch:
        return Verdict(accepted=False, reason=f"epoch {state.epoch} took over")
    match state.phase(now):
        case Phase.GRACE:
            return Verdict(accepted=False, reason="it disconnected; start again to resume")
        case Phase.OVER:
            return Verdict(accepted=False, reason=f"it expired, {_ended_text(state)}")
        case Phase.OFFLINE:
            return Verdict(accepted=False, reason="the stream session has ended")
    return Verdict(accepted=True, reason="the lease is renewed")


class LeaveAction(StrEnum):
    """What a holder's goodbye leads to."""

    WAIT = "wait"
    """Give the lease up and wait for a reconnect."""
    END = "end"
    """Close the session."""
    NOTHING = "nothing"
    """It already is as asked: a duplicated goodbye."""
    REFUSE = "refuse"
    """A newer epoch holds the lease."""


@dataclass(frozen=True, slots=True)
class LeaveDecision:
    """The answer to a goodbye."""

    action: LeaveAction
    reason: str


def decide_disconnect(
    state: LeaseState, *, epoch: int, grace: timedelta, now: datetime
) -> LeaveDecision:
    """Decide what follows when the connection of ``epoch`` was closed."""
    if state.epoch != epoch:
        return LeaveDecision(LeaveAction.REFUSE, f"epoch {state.epoch} took over")
    match state.phase(now):
        case Phase.OFFLINE:
            return LeaveDecision(LeaveAction.NOTHING, "the stream session has ended")
        case Phase.GRACE:
            return LeaveDecision(LeaveAction.NOTHING, "the publisher disconnected before")
        case Phase.OVER:
            return LeaveDecision(LeaveAction.END, _ended_text(state))
    if grace <= timedelta(0):
        return LeaveDecision(LeaveAction.END, "the stream grants no grace")
    return LeaveDecision(LeaveAction.WAIT, "the publisher may reconnect")


def decide_stop(state: LeaseState, *, epoch: int, now: datetime) -> LeaveDecision:
    """Decide what follows when the holder of ``epoch`` wants the session to end."""
    if state.epoch != epoch:
        return LeaveDecision(LeaveAction.REFUSE, f"epoch {state.epoch} took over")
    if state.phase(now) is Phase.OFFLINE:
        return LeaveDecision(LeaveAction.NOTHING, "the stream session has ended")
    return LeaveDecision(LeaveAction.END, "the publisher stopped")


class ReapAction(StrEnum):
    """What is owed to a stream whose publisher may be gone."""

    NOTHING = "nothing"
    """The lease holds, or the grace runs and was announced."""
    ANNOUNCE = "announce"
    """The lease lapsed: tell everybody that the stream waits for its publisher."""
    END = "end"
    """The grace is over: close the session."""


def decide_reap(state: LeaseState, *, announced_live: bool, now: datetime) -> ReapAction:
    """Decide what the reaper owes the stream; ``announced_live`` is what everybody believes."""
    phase = state.phase(now)
    if phase is Phase.OVER:
        return ReapAction.END
    if phase is Phase.LAPSED and announced_live:
        return ReapAction.ANNOUNCE
    return ReapAction.NOTHING


def last_alive(
    state: LeaseState, *, started_at: datetime, alive_at: datetime | None, now: datetime
) -> datetime:
    """Return when the session ends if it is closed at ``now``.

    A publisher that holds its lease is alive now; one that does not was last alive at its last
    sign of life. Clocks of several nodes disagree, so the result is never before the start.
    """
    if state.phase(now) is Phase.HELD or alive_at is None:
        return max(started_at, now)
    return max(started_at, min(alive_at, now))


def _ended_text(state: LeaseState) -> str:
    return f"its grace ended at {_text(state.grace_until)}"


def _text(moment: datetime | None) -> str:
    return "an unknown time" if moment is None else moment.isoformat(timespec="seconds")
