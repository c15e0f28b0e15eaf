"""What guessing costs over time, and that nobody is locked out by strangers."""

from __future__ import annotations

from datetime import timedelta

import pytest

from rootstream_db.errors import (
    FactorDisabledError,
    InvalidCodeError,
    TooManyAttemptsError,
)
from rootstream_db.services.mfa.attempts import lock_duration
from rootstream_db.settings import MfaSettings
from tests.fixtures.mfa import enroll


def guess(person):
    with pytest.raises(InvalidCodeError):
        person.verify(person.wrong())


def wait_out(person):
    """Be refused, and come back when the refusal said."""
    with pytest.raises(TooManyAttemptsError) as caught:
        person.verify(person.code())
    person.clock.advance(caught.value.retry_after)
    return caught.value.retry_after


def test_the_waits_double_up_to_an_hour():
    settings = MfaSettings()
    waits = [lock_duration(failures, settings) for failures in range(1, 15)]
    seconds = [None if wait is None else int(wait.total_seconds()) for wait in waits]

    assert [None] * 4 + [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600] == seconds
    assert timedelta(hours=1) == lock_duration(10**6, settings)


def test_a_hundred_failures_in_a_row_are_the_end(person):
    waits = []
    for number in range(1, 101):
        guess(person)
        if 5 <= number < 100:
            waits.append(wait_out(person))
    # Weeks later, with the right code.
    person.clock.advance(timedelta(days=30))
    with pytest.raises(FactorDisabledError) as caught:
        person.verify(person.code())

    assert [30, 60, 120, 240, 480, 960, 1920, 3600] == waits[:8]
    assert {3600} == set(waits[8:])
    assert "totp" == caught.value.method
    assert 100 == person.outcomes()["wrong"]
    assert 1 == person.outcomes()["disabled"]


def test_the_end_is_told_once_in_the_event_log(rootstream, clock):
    strict = MfaSettings(backup_code_hash="cheapest-for-tests", free_attempts=3, disable_after=3)
    rootstream.settings = rootstream.settings.model_copy(update={"mfa": strict})
    person = enroll(rootstream, clock)
    for _ in range(3):
        guess(person)
    for _ in range(3):
        with pytest.raises(FactorDisabledError):
            person.verify(person.code())

    told = [
        event.data
        for event in rootstream.events.read("User", str(person.user.id))
        if event.event_type == "MfaMethodDisabled"
    ]
    assert [{"method": "totp", "failures": 3}] == told


@pytest.mark.parametrize("way", ["unlock", "reset", "a new device"])
def test_an_operator_or_a_new_device_opens_it_again(rootstream, clock, way):
    strict = MfaSettings(backup_code_hash="cheapest-for-tests", free_attempts=2, disable_after=2)
    rootstream.settings = rootstream.settings.model_copy(update={"mfa": strict})
    person = enroll(rootstream, clock)
    guess(person)
    guess(person)
    with rootstream.transaction() as work:
        if way == "unlock":
            rootstream.mfa.unlock(work, person.user)
        elif way == "reset":
            rootstream.mfa.reset(work, person.user)
    if way != "unlock":
        with rootstream.transaction() as work:
            enrollment = rootstream.mfa.enroll(work, person.user, label="New", secret=person.secret)
        with rootstream.transaction() as work:
            rootstream.mfa.confirm(work, enrollment.id, person.code())
        clock.advance(30)

    person.verify(person.code())


def test_a_success_makes_the_failures_forgotten(person):
    for _ in range(4):
        guess(person)
    person.verify(person.code())
    person.clock.advance(30)
    for _ in range(4):
        guess(person)
    person.verify(person.code())


def test_each_method_has_a_count_of_its_own(person):
    code = person.backup_codes()[0]
    for _ in range(5):
        guess(person)
    with pytest.raises(TooManyAttemptsError):
        person.verify(person.code())

    person.consume(code)


def test_each_account_has_a_count_of_its_own(person, rootstream, clock):
    other = enroll(rootstream, clock)
    for _ in range(5):
        guess(person)

    other.verify(other.code())


def test_the_refusal_says_when_to_come_back(person):
    for _ in range(5):
        guess(person)
    person.clock.advance(29)
    with pytest.raises(TooManyAttemptsError, match="try again in 1 s") as caught:
        person.verify(person.code())
    assert 1 == caught.value.retry_after
    person.clock.advance(1)
    person.verify(person.code())


def test_a_deleted_account_leaves_no_attempts_behind(person):
    guess(person)
    with person.rs.transaction() as work:
        person.rs.accounts.delete(work, person.user)
    with person.rs.transaction() as work:
        assert [] == list(work.mfa_attempts.list_by_user(person.user.id))
        assert [] == list(work.mfa_throttle.list_by_user(person.user.id))
