"""Codes as people send them: early, late, from slow clocks, in other scripts."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from rootstream_db.audit import acting
from rootstream_db.errors import (
    AppendOnlyError,
    ClockSkewError,
    CodeReusedError,
    InvalidCodeError,
    MfaRequiredError,
    SessionRevokedError,
)
from rootstream_db.security.assurance import AssuranceLevel, MfaMethod


def drift_of(person):
    with person.rs.transaction() as work:
        return work.mfa_factors.get_one(person.factor_id).drift_steps


def test_a_code_is_proof_of_a_second_factor(person, clock):
    proof = person.verify(person.code())

    assert (person.user.id, MfaMethod.TOTP, AssuranceLevel.MFA, clock()) == (
        proof.user_id,
        proof.method,
        proof.level,
        proof.verified_at,
    )


@pytest.mark.parametrize("seconds", [-30, 0, 30])
def test_a_code_may_be_one_step_early_or_late(person, seconds):
    person.verify(person.code(seconds))


@pytest.mark.parametrize("seconds", [-60, 60])
def test_a_code_may_not_be_two_steps_early_or_late(person, seconds):
    with pytest.raises(InvalidCodeError):
        person.verify(person.code(seconds))


@pytest.mark.parametrize("seconds", [-300, -60])
def test_a_code_of_some_minutes_ago_tells_of_a_slow_clock(person, seconds):
    with pytest.raises(ClockSkewError, match="set the clock") as caught:
        person.verify(person.code(seconds))
    assert -seconds == caught.value.seconds_behind
    assert 1 == person.outcomes()["clock_skew"]


@pytest.mark.parametrize("seconds", [60, 300])
def test_a_guesser_is_not_told_that_a_code_is_still_to_come(person, clock, seconds):
    code = person.code(seconds)
    with pytest.raises(InvalidCodeError) as caught:
        person.verify(code)

    assert InvalidCodeError is type(caught.value)
    assert 1 == person.outcomes()["clock_skew"]


@pytest.mark.parametrize("seconds", [-330, 330])
def test_a_code_of_any_other_time_is_just_wrong(person, seconds):
    with pytest.raises(InvalidCodeError) as caught:
        person.verify(person.code(seconds))
    assert InvalidCodeError is type(caught.value)
    assert 1 == person.outcomes()["wrong"]


@pytest.mark.parametrize("direction", [-1, 1])
def test_a_clock_that_drifts_is_followed_step_by_step_within_bounds(person, clock, direction):
    for steps in (1, 2, 3):
        clock.advance(600)
        person.verify(person.code(30 * direction * steps))
        assert direction * min(steps, 2) == drift_of(person)
    clock.advance(600)
    with pytest.raises(InvalidCodeError):
        person.verify(person.code(30 * direction * 4))


def test_a_clock_that_was_set_right_is_followed_back(person, clock):
    for seconds, drift in ((-30, -1), (-60, -2), (0, -1), (0, 0)):
        clock.advance(600)
        person.verify(person.code(seconds))
        assert drift == drift_of(person)


def test_a_code_of_any_device_will_do(person, clock):
    with person.rs.transaction() as work:
        tablet = person.rs.mfa.enroll(work, person.user, label="Tablet")
    other = type(person)(person.rs, clock, person.user, tablet.secret, tablet.id)
    with person.rs.transaction() as work:
        person.rs.mfa.confirm(work, tablet.id, other.code())
    clock.advance(60)

    person.verify(person.code())
    person.verify(other.code())
    with pytest.raises(CodeReusedError):
        person.verify(person.code())


@pytest.mark.parametrize(
    "form",
    [
        "\u0660\u0661\u0662\u0663\u0664\u0665",
        "\uff10\uff11\uff12\uff13\uff14\uff15",
        "",
        "12345",
        "12 456",
        "123456\n",
        "0x1234",
        "'; --",
        "9" * 1_000_000,
    ],
    ids=["Arabic", "full width", "empty", "short", "space", "newline", "hex", "SQL", "megabyte"],
)
def test_what_is_no_code_is_a_wrong_code(person, form):
    with pytest.raises(InvalidCodeError):
        person.verify(form)
    assert 1 == person.outcomes()["wrong"]


def test_the_right_digits_in_another_script_are_refused(person):
    code = person.code().translate({ord("0") + digit: 0xFF10 + digit for digit in range(10)})
    with pytest.raises(InvalidCodeError):
        person.verify(code)
    person.verify(person.code())


def test_every_attempt_is_written_down_with_where_it_came_from(person, clock):
    with acting(ip_address="2001:db8::7"), pytest.raises(InvalidCodeError):
        person.verify("wrong!")
    clock.advance(1)
    person.verify(person.code())
    with person.rs.transaction() as work:
        accepted, wrong, enrolled = person.rs.mfa.list_attempts(work, person.user)

    assert ["accepted", "wrong", "accepted"] == [
        one.outcome.value for one in (accepted, wrong, enrolled)
    ]
    assert ("2001:db8::7", None) == (str(wrong.ip_address), wrong.factor_id)
    assert (None, person.factor_id) == (accepted.ip_address, accepted.factor_id)


def test_an_attempt_is_written_once(person):
    def forge():
        with person.rs.transaction() as work:
            work.session.execute(text("UPDATE mfa_attempts SET outcome = 'wrong'"))

    with pytest.raises(AppendOnlyError):
        forge()


def test_a_factor_that_changes_is_told(person):
    person.backup_codes()
    with person.rs.transaction() as work:
        person.rs.mfa.unenroll(work, person.user, person.factor_id)
    told = list(person.rs.events.read("User", str(person.user.id)))

    assert [
        "MfaFactorAdded",
        "SecurityNoticeDue",
        "BackupCodesGenerated",
        "SecurityNoticeDue",
        "MfaFactorRemoved",
        "SecurityNoticeDue",
    ] == [event.event_type for event in told]
    assert {"factor_id": str(person.factor_id), "kind": "totp"} == told[0].data
    assert {"label": "Phone"} == person.rs.events.personal_of(told[0])
    assert {"about": "MfaFactorAdded"} == told[1].data


@pytest.mark.parametrize("change", ["confirm", "unenroll", "reset"])
def test_sessions_end_with_a_change_of_factors_but_the_one_it_is_done_in(person, change):
    rs = person.rs
    with rs.transaction() as work:
        user = work.users.get_one(person.user.id)
        mine, other = rs.sessions.create(work, user), rs.sessions.create(work, user)
        enrollment = rs.mfa.enroll(work, user, label="Tablet", secret=person.secret)
    keep = mine.session.id
    with rs.transaction() as work:
        if change == "confirm":
            rs.mfa.confirm(work, enrollment.id, person.code(), except_session=keep)
        elif change == "unenroll":
            rs.mfa.unenroll(work, user, person.factor_id, except_session=keep)
        else:
            rs.mfa.reset(work, user)

    with pytest.raises(SessionRevokedError):
        rs.sessions.validate(other.token)
    if change == "reset":
        with pytest.raises(SessionRevokedError):
            rs.sessions.validate(mine.token)
    else:
        assert keep == rs.sessions.validate(mine.token).session_id


def test_a_second_factor_makes_a_session_more_than_a_password_does(person):
    rs = person.rs
    with rs.transaction() as work:
        first = rs.sessions.create(work, work.users.get_one(person.user.id))
    with pytest.raises(MfaRequiredError):
        rs.sessions.validate(first.token).require(AssuranceLevel.MFA)
    with rs.transaction() as work:
        proof = rs.mfa.verify_totp(work, person.user, person.code())
        second = rs.sessions.step_up(work, first.token, proof)

    rs.sessions.validate(second.token).require(AssuranceLevel.MFA).require_recent(5)


def test_a_code_is_spent_with_the_session_or_not_at_all(person):
    rs, code = person.rs, person.code()

    def log_in(minutes_late):
        with rs.transaction() as work:
            proof = rs.mfa.verify_totp(work, person.user, code)
            late = replace(proof, verified_at=work.now - timedelta(minutes=minutes_late))
            return rs.sessions.create(work, work.users.get_one(person.user.id), proof=late)

    with pytest.raises(MfaRequiredError):
        log_in(minutes_late=60)
    rs.sessions.validate(log_in(minutes_late=0).token).require(AssuranceLevel.MFA)
