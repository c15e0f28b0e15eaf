from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from rootstream_db.services.live_lease import (
    LeaseState,
    LeaveAction,
    Phase,
    ReapAction,
    StartAction,
    decide_disconnect,
    decide_heartbeat,
    decide_reap,
    decide_start,
    decide_stop,
    last_alive,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
GRACE = timedelta(seconds=30)

moments = st.integers(-100, 100).map(lambda seconds: NOON + timedelta(seconds=seconds))
owners = st.sampled_from(["a", "b", "c"])
epochs = st.integers(0, 3)


@st.composite
def lease_states(draw):
    """Any state that the manager can leave behind."""
    epoch = draw(epochs)
    if draw(st.booleans()):
        return LeaseState(epoch=epoch)
    ends = draw(moments)
    if draw(st.booleans()):
        return LeaseState(epoch=epoch, grace_until=ends, session_id=1)
    grace = timedelta(seconds=draw(st.integers(0, 60)))
    return LeaseState(
        epoch=epoch, owner=draw(owners), expires_at=ends, grace_until=ends + grace, session_id=1
    )


@given(lease_states(), owners, moments)
def test_nobody_but_the_holder_gets_in_while_a_lease_holds(state, owner, now):
    decision = decide_start(state, owner=owner, now=now)

    held = state.phase(now) is Phase.HELD
    refused = decision.action is StartAction.REFUSE
    assert (held and state.owner != owner) is refused
    assert (held and state.owner == owner) is (decision.action is StartAction.REPEAT)


@given(lease_states(), owners, moments)
def test_whoever_gets_in_anew_holds_a_higher_epoch_than_anybody_before(state, owner, now):
    decision = decide_start(state, owner=owner, now=now)

    if decision.action not in {StartAction.REFUSE, StartAction.REPEAT}:
        assert decision.epoch > state.epoch
    assert decision.reason


@given(lease_states(), epochs, moments)
def test_no_stale_epoch_is_ever_accepted(state, epoch, now):
    accepted = (
        decide_heartbeat(state, epoch=epoch, now=now).accepted,
        decide_stop(state, epoch=epoch, now=now).action is not LeaveAction.REFUSE,
        decide_disconnect(state, epoch=epoch, grace=GRACE, now=now).action
        is not LeaveAction.REFUSE,
    )
    if epoch != state.epoch:
        assert (False, False, False) == accepted
    else:
        assert accepted[1:] == (True, True)


@given(lease_states(), moments, st.booleans())
def test_the_reaper_never_touches_a_lease_that_holds(state, now, announced_live):
    action = decide_reap(state, announced_live=announced_live, now=now)

    if state.phase(now) in {Phase.HELD, Phase.OFFLINE, Phase.GRACE}:
        assert ReapAction.NOTHING is action


@given(lease_states(), moments, moments)
def test_phases_never_go_back(state, one, other):
    order = [Phase.HELD, Phase.LAPSED, Phase.GRACE, Phase.OVER]
    earlier, later = sorted([one, other])
    first, second = state.phase(earlier), state.phase(later)

    if first is Phase.OFFLINE:
        assert Phase.OFFLINE is second
    else:
        assert order.index(first) <= order.index(second)


@given(lease_states(), moments, moments, moments)
def test_a_session_ends_between_its_start_and_now_unless_clocks_disagree(
    state, started_at, alive_at, now
):
    ended_at = last_alive(state, started_at=started_at, alive_at=alive_at, now=now)

    assert started_at <= ended_at
    assert ended_at <= max(now, started_at)
