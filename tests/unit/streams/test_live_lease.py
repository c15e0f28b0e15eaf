from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

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
    terms,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TTL = timedelta(seconds=15)
GRACE = timedelta(seconds=30)

OFFLINE = LeaseState(epoch=4)
HELD = LeaseState(
    epoch=4,
    owner="a/1",
    expires_at=NOON + TTL,
    grace_until=NOON + TTL + GRACE,
    session_id=9,
)
WAITING = LeaseState(epoch=4, grace_until=NOON + GRACE, session_id=9)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("state", "seconds", "phase"),
    [
        (OFFLINE, 0, Phase.OFFLINE),
        (HELD, 0, Phase.HELD),
        (HELD, 14.999999, Phase.HELD),
        (HELD, 15, Phase.LAPSED),
        (HELD, 44.999999, Phase.LAPSED),
        (HELD, 45, Phase.OVER),
        (HELD, 10**8, Phase.OVER),
        (WAITING, 0, Phase.GRACE),
        (WAITING, 29.999999, Phase.GRACE),
        (WAITING, 30, Phase.OVER),
    ],
)
def test_time_alone_moves_an_open_session_through_its_phases(state, seconds, phase):
    assert phase is state.phase(after(seconds))


def test_a_lease_holds_for_its_ttl_and_its_session_survives_it_by_the_grace():
    granted = terms(NOON, ttl=TTL, grace=GRACE)

    assert after(15) == granted.expires_at
    assert after(45) == granted.grace_until


class TestStart:
    def test_an_offline_stream_gets_a_new_session_under_the_next_epoch(self):
        decision = decide_start(OFFLINE, owner="b/2", now=NOON)

        assert (StartAction.NEW, 5) == (decision.action, decision.epoch)

    def test_a_second_publisher_is_refused_and_told_by_whom_and_until_when(self):
        decision = decide_start(HELD, owner="b/2", now=NOON)

        assert StartAction.REFUSE is decision.action
        assert "a/1 holds the lease until 2026-01-01T12:00:15+00:00" == decision.reason

    def test_the_holder_asking_again_gets_the_lease_it_has(self):
        decision = decide_start(HELD, owner="a/1", now=NOON)

        assert (StartAction.REPEAT, 4) == (decision.action, decision.epoch)

    @pytest.mark.parametrize(("state", "seconds"), [(HELD, 15), (HELD, 44), (WAITING, 29)])
    @pytest.mark.parametrize("owner", ["a/1", "b/2"])
    def test_within_the_grace_anybody_with_a_key_resumes(self, state, seconds, owner):
        decision = decide_start(state, owner=owner, now=after(seconds))

        assert (StartAction.RESUME, 5) == (decision.action, decision.epoch)
        assert "the session may be resumed until" in decision.reason

    @pytest.mark.parametrize(("state", "seconds"), [(HELD, 45), (WAITING, 30)])
    def test_after_the_grace_the_forgotten_session_is_superseded(self, state, seconds):
        decision = decide_start(state, owner="a/1", now=after(seconds))

        assert (StartAction.SUPERSEDE, 5) == (decision.action, decision.epoch)
        assert decision.reason.startswith("its grace ended at 2026-01-01T12:00:")


class TestHeartbeat:
    @pytest.mark.parametrize("seconds", [0, 14, 15, 44])
    def test_the_holder_renews_its_lease_even_lapsed(self, seconds):
        assert decide_heartbeat(HELD, epoch=4, now=after(seconds)).accepted

    @pytest.mark.parametrize("epoch", [0, 3, 5])
    @pytest.mark.parametrize("state", [OFFLINE, HELD, WAITING])
    def test_any_other_epoch_is_refused(self, state, epoch):
        verdict = decide_heartbeat(state, epoch=epoch, now=NOON)

        assert not verdict.accepted
        assert "epoch 4 took over" == verdict.reason

    @pytest.mark.parametrize(
        ("state", "seconds", "reason"),
        [
            (HELD, 45, "it expired, its grace ended at 2026-01-01T12:00:45+00:00"),
            (WAITING, 1, "it disconnected; start again to resume"),
            (WAITING, 30, "it expired, its grace ended at 2026-01-01T12:00:30+00:00"),
            (OFFLINE, 0, "the stream session has ended"),
        ],
    )
    def test_a_lease_that_is_over_is_refused_with_the_reason(self, state, seconds, reason):
        verdict = decide_heartbeat(state, epoch=4, now=after(seconds))

        assert not verdict.accepted
        assert reason == verdict.reason


class TestDisconnect:
    @pytest.mark.parametrize("seconds", [0, 20])
    def test_the_session_waits_for_its_publisher(self, seconds):
        decision = decide_disconnect(HELD, epoch=4, grace=GRACE, now=after(seconds))

        assert LeaveAction.WAIT is decision.action

    def test_without_a_grace_the_session_ends(self):
        decision = decide_disconnect(HELD, epoch=4, grace=timedelta(0), now=NOON)

        assert LeaveAction.END is decision.action
        assert "the stream grants no grace" == decision.reason

    @pytest.mark.parametrize("state", [OFFLINE, WAITING])
    def test_a_second_goodbye_changes_nothing(self, state):
        decision = decide_disconnect(state, epoch=4, grace=GRACE, now=NOON)

        assert LeaveAction.NOTHING is decision.action

    def test_a_goodbye_after_the_grace_ends_the_session(self):
        decision = decide_disconnect(HELD, epoch=4, grace=GRACE, now=after(45))

        assert LeaveAction.END is decision.action

    def test_a_goodbye_of_an_older_epoch_is_refused(self):
        decision = decide_disconnect(HELD, epoch=3, grace=GRACE, now=NOON)

        assert LeaveAction.REFUSE is decision.action
        assert "epoch 4 took over" == decision.reason


class TestStop:
    @pytest.mark.parametrize(
        ("state", "seconds"), [(HELD, 0), (HELD, 20), (HELD, 50), (WAITING, 1)]
    )
    def test_the_latest_holder_ends_an_open_session(self, state, seconds):
        assert LeaveAction.END is decide_stop(state, epoch=4, now=after(seconds)).action

    def test_a_second_stop_changes_nothing(self):
        assert LeaveAction.NOTHING is decide_stop(OFFLINE, epoch=4, now=NOON).action

    @pytest.mark.parametrize("state", [OFFLINE, HELD, WAITING])
    def test_a_stop_of_an_older_epoch_is_refused(self, state):
        assert LeaveAction.REFUSE is decide_stop(state, epoch=3, now=NOON).action


class TestReap:
    @pytest.mark.parametrize(
        ("state", "seconds", "announced_live", "action"),
        [
            (HELD, 0, True, ReapAction.NOTHING),
            (HELD, 15, True, ReapAction.ANNOUNCE),
            (HELD, 15, False, ReapAction.NOTHING),
            (HELD, 45, True, ReapAction.END),
            (HELD, 45, False, ReapAction.END),
            (WAITING, 29, False, ReapAction.NOTHING),
            (WAITING, 30, False, ReapAction.END),
            (OFFLINE, 10**8, False, ReapAction.NOTHING),
        ],
    )
    def test_the_reaper_announces_a_lapse_once_and_ends_after_the_grace(
        self, state, seconds, announced_live, action
    ):
        assert action is decide_reap(state, announced_live=announced_live, now=after(seconds))


class TestLastAlive:
    def test_a_publisher_that_holds_its_lease_is_alive_now(self):
        ended = last_alive(HELD, started_at=after(-60), alive_at=after(-5), now=NOON)

        assert ended == NOON

    def test_a_silent_publisher_was_alive_at_its_last_sign_of_life(self):
        ended = last_alive(HELD, started_at=after(-60), alive_at=NOON, now=after(100))

        assert ended == NOON

    @pytest.mark.parametrize("alive_at", [None, after(-3600), after(3600)])
    def test_a_session_never_ends_before_it_started_nor_in_the_future(self, alive_at):
        ended = last_alive(HELD, started_at=NOON, alive_at=alive_at, now=after(100))

        assert NOON <= ended <= after(100)
