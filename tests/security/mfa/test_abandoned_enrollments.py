"""Who was thrown out of an account cannot add a factor to it with what they began before."""

from __future__ import annotations

import pyotp
import pytest

from rootstream_db.errors import EnrollmentExpiredError, PasskeyChallengeSpentError
from rootstream_db.models import TokenPurpose
from tests.fixtures.authenticator import Authenticator

PASSWORD, ANOTHER = "correct horse battery staple", "another long password"


@pytest.fixture
def alice(rs):
    with rs.transaction() as work:
        return rs.accounts.register(
            work, username="alice", email="alice@example.com", password=PASSWORD
        )


def throw_out(rs, alice, how):
    """Let the owner end what a stranger may be doing in the account."""
    with rs.transaction() as work:
        if how == "a new password":
            rs.accounts.change_password(work, alice, current=PASSWORD, new=ANOTHER)
        elif how == "a reset password":
            token = rs.accounts.issue_token(work, alice, TokenPurpose.RESET_PASSWORD)
            rs.accounts.reset_password(work, token, ANOTHER)
        elif how == "a logout everywhere":
            rs.sessions.revoke_all_for_user(work, alice)
        else:
            rs.accounts.deactivate(work, alice)
            rs.accounts.reactivate(work, alice)


WAYS = ["a new password", "a reset password", "a logout everywhere", "a closed account"]


@pytest.mark.parametrize("how", WAYS)
def test_an_app_that_was_being_enrolled_is_forgotten_with(rs, alice, clock, how):
    with rs.transaction() as work:
        begun = rs.mfa.enroll(work, alice)
    throw_out(rs, alice, how)
    code = pyotp.TOTP(begun.secret).at(int(clock().timestamp()))
    with rs.transaction() as work, pytest.raises(EnrollmentExpiredError):
        rs.mfa.confirm(work, begun.id, code)
    with rs.transaction() as work:
        assert not rs.mfa.status(work, alice).enabled
        begun = rs.mfa.enroll(work, alice)
    with rs.transaction() as work:
        rs.mfa.confirm(work, begun.id, pyotp.TOTP(begun.secret).at(int(clock().timestamp())))


@pytest.mark.parametrize("how", WAYS)
def test_a_passkey_that_was_being_made_is_forgotten_with(
    rs, alice, begin_registration, finish_registration, how
):
    begun = begin_registration(alice)
    throw_out(rs, alice, how)
    with pytest.raises(PasskeyChallengeSpentError):
        finish_registration(begun, Authenticator().create(begun.options))
    with rs.transaction() as work:
        assert not rs.mfa.status(work, alice).enabled
    begun = begin_registration(alice)
    finish_registration(begun, Authenticator().create(begun.options))
