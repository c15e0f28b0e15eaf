"""What a session is sure of never lasts longer, or comes cheaper, than what was proved."""

from __future__ import annotations

from datetime import timedelta

import pytest

from rootstream_db.errors import (
    InvalidCredentialsError,
    MfaRequiredError,
    ReauthenticationRequiredError,
    SessionRevokedError,
)
from rootstream_db.security.assurance import AssuranceLevel, MfaMethod, MfaProof

HOUR = timedelta(hours=1)


def passkey(user, clock):
    return MfaProof(user.id, MfaMethod.PASSKEY, AssuranceLevel.PHISHING_RESISTANT, clock())


def code(user, clock):
    return MfaProof(user.id, MfaMethod.TOTP, AssuranceLevel.MFA, clock())


def device(user, clock):
    return MfaProof(user.id, MfaMethod.TRUSTED_DEVICE, AssuranceLevel.MFA, clock())


@pytest.fixture
def step_up(rootstream):
    def step_up(issued, proof):
        with rootstream.transaction() as work:
            return rootstream.sessions.step_up(work, issued.token, proof)

    return step_up


@pytest.mark.parametrize("weaker", [code, device])
def test_a_code_does_not_prolong_what_a_passkey_proved(
    sessions, log_in, alice, clock, step_up, weaker
):
    issued = log_in(proof=passkey(alice, clock))
    clock.advance(23 * HOUR)
    sessions.validate(issued.token).require(AssuranceLevel.PHISHING_RESISTANT)

    issued = step_up(issued, weaker(alice, clock))
    clock.advance(2 * HOUR)
    assert AssuranceLevel.MFA is sessions.validate(issued.token).level


def test_a_code_does_not_bring_back_what_a_passkey_proved_long_ago(
    sessions, log_in, alice, clock, step_up
):
    issued = log_in(proof=passkey(alice, clock))
    for _ in range(2):
        clock.advance(23 * HOUR)
        sessions.validate(issued.token)
    assert AssuranceLevel.PASSWORD is sessions.validate(issued.token).level

    issued = step_up(issued, code(alice, clock))
    assert AssuranceLevel.MFA is sessions.validate(issued.token).level


def test_a_trusted_device_is_no_recent_proof_of_who_sits_before_it(
    sessions, log_in, alice, clock, step_up
):
    issued = log_in(proof=device(alice, clock))
    # The password was just given.
    sessions.validate(issued.token).require(AssuranceLevel.MFA).require_recent(10)
    clock.advance(HOUR)
    issued = step_up(issued, device(alice, clock))
    with pytest.raises(ReauthenticationRequiredError):
        sessions.validate(issued.token).require_recent(10)


def test_a_trusted_device_does_not_stand_in_for_a_factor_that_is_to_be_proved_again(
    sessions, log_in, alice, clock, step_up
):
    issued = log_in(proof=code(alice, clock))
    clock.advance(HOUR)
    with pytest.raises(MfaRequiredError):
        sessions.validate(issued.token).require_recent(10)
    issued = step_up(issued, device(alice, clock))
    with pytest.raises(ReauthenticationRequiredError):
        sessions.validate(issued.token).require_recent(10)
    issued = step_up(issued, code(alice, clock))
    sessions.validate(issued.token).require_recent(10)


def test_a_login_with_the_old_password_renews_no_session_of_the_new_one(
    rootstream, sessions, log_in, alice
):
    issued = log_in()
    with rootstream.transaction() as work:
        before = work.users.get_one(alice.id)
    with rootstream.transaction() as work:
        sessions.revoke_all_for_user(work, alice, except_session=issued.session.id)
    with rootstream.transaction() as work, pytest.raises(InvalidCredentialsError):
        sessions.reauthenticate(work, issued.token, before)
    assert alice.id == sessions.validate(issued.token).user_id


def test_a_session_of_an_epoch_that_is_over_is_not_carried_into_the_next(
    rootstream, sessions, log_in, alice
):
    issued = log_in()
    with rootstream.transaction() as work:
        work.users.bump_auth_epoch(alice.id)
    with rootstream.transaction() as work:
        sessions.revoke_all_for_user(work, alice, except_session=issued.session.id)
    with pytest.raises(SessionRevokedError):
        sessions.refresh(issued.token)
