"""An older database that is put in the place of this one brings no spent code back."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from rootstream_db.errors import CodeReusedError, DeviceNotTrustedError, InvalidCodeError

OLDER = """
UPDATE user_mfa SET last_used_step = -1;
UPDATE mfa_recovery_codes SET used_at = NULL;
"""
"""What a database knew before codes were spent."""


@pytest.fixture
def restore(rootstream):
    """Put back what an older database held, and begin a new generation as a restore does."""

    def restore():
        with rootstream.transaction() as work:
            work.session.execute(text(OLDER))
            work.auth_state.next_generation(now=work.now, reason="restored from a backup")

    return restore


def test_a_code_that_was_spent_before_stays_spent(person, restore):
    code = person.code(30)
    person.verify(code)
    person.clock.advance(30)
    restore()
    with pytest.raises(CodeReusedError):
        person.verify(code)
    with pytest.raises(CodeReusedError):
        person.verify(person.code())
    # The phone's clock is one step ahead, as far as is known.
    person.clock.advance(90)
    person.verify(person.code())


@pytest.mark.parametrize("ahead", [30, 60, 90])
def test_a_code_of_a_fast_clock_stays_spent_after_a_failover_of_seconds(person, restore, ahead):
    for seconds in range(30, ahead, 30):
        person.verify(person.code(seconds))
        person.clock.advance(600)
    code = person.code(ahead)
    person.verify(code)
    restore()
    with pytest.raises(CodeReusedError):
        person.verify(code)
    person.clock.advance(10)
    with pytest.raises(CodeReusedError):
        person.verify(code)


def test_backup_codes_of_before_are_void_and_new_ones_work(person, restore):
    codes = person.backup_codes()
    person.consume(codes[0])
    restore()
    for code in codes[:2]:
        with pytest.raises(InvalidCodeError):
            person.consume(code)
    with person.rs.transaction() as work:
        assert 0 == person.rs.mfa.status(work, person.user).backup_codes_left

    person.consume(person.backup_codes()[0])


def test_devices_trusted_before_are_not_trusted_any_more(person, restore):
    proof = person.verify(person.code())
    with person.rs.transaction() as work:
        token = person.rs.mfa.trust_device(work, person.user, proof).token
    restore()
    with person.rs.transaction() as work, pytest.raises(DeviceNotTrustedError):
        person.rs.mfa.verify_trusted_device(work, person.user, token)
    person.clock.advance(60)
    proof = person.verify(person.code())
    with person.rs.transaction() as work:
        token = person.rs.mfa.trust_device(work, person.user, proof).token
        person.rs.mfa.verify_trusted_device(work, person.user, token)
