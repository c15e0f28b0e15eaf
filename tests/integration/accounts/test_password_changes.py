"""Changing and resetting passwords, proving addresses: one-time tokens and what they end."""

from __future__ import annotations

from datetime import timedelta

import pytest

from rootstream_db.errors import (
    CodeReusedError,
    InvalidCodeError,
    InvalidCredentialsError,
    PermissionDeniedError,
    TooManyAttemptsError,
    ValidationError,
)
from rootstream_db.models import TokenPurpose
from rootstream_db.security.tokens import SecretText, TokenKind
from tests.factories import MINT, make_session

PASSWORD = "correct horse battery staple"
NEVER_ISSUED = MINT.issue(TokenKind.RESET_PASSWORD).text
BETTER = "another horse, another staple"
RESET, VERIFY = TokenPurpose.RESET_PASSWORD, TokenPurpose.VERIFY_EMAIL


@pytest.fixture
def session_of_alice(database, alice):
    with database.transaction() as work:
        return make_session(work, alice)


@pytest.fixture
def do(accounts, database):
    """Call a method of the manager in a transaction of its own."""

    def do(method, *args, **named):
        with database.transaction() as work:
            return getattr(accounts, method)(work, *args, **named)

    return do


def open_sessions(database, user):
    with database.transaction() as work:
        return len(work.sessions.list_open(user.id, now=work.now))


# change


def test_a_changed_password_is_the_only_one_that_works(do, alice, clock, told):
    clock.advance(60)
    user = do("change_password", alice, current=PASSWORD, new=BETTER)
    assert clock() == user.password_changed_at
    with pytest.raises(InvalidCredentialsError):
        do("authenticate", "alice", PASSWORD)
    assert alice.id == do("authenticate", "alice", BETTER).id
    assert ("PasswordChanged", {"sessions_revoked": 0}) == told(alice)[1]


def test_a_changed_password_ends_sessions_and_reset_tokens(do, database, alice, session_of_alice):
    token = do("issue_token", alice, RESET)
    assert 1 == open_sessions(database, alice)
    do("change_password", alice, current=PASSWORD, new=BETTER)
    assert 0 == open_sessions(database, alice)
    with pytest.raises(InvalidCodeError):
        do("reset_password", token, "yet another pass phrase")


def test_a_wrong_current_password_changes_nothing_and_is_a_guess(
    committed_accounts, committed_database, committed_alice
):
    def change(current):
        with committed_database.transaction() as work:
            committed_accounts.change_password(work, committed_alice, current=current, new=BETTER)

    for _ in range(5):
        with pytest.raises(InvalidCredentialsError, match="the current password is wrong"):
            change("wrong")
    with pytest.raises(TooManyAttemptsError):
        change(PASSWORD)
    with committed_database.transaction() as work, pytest.raises(TooManyAttemptsError):
        committed_accounts.authenticate(work, "alice", PASSWORD)


@pytest.mark.parametrize("new", ["short", "Alice@example.com", PASSWORD])
def test_a_password_against_the_rules_is_refused_and_is_no_guess(do, alice, new):
    for _ in range(9):
        with pytest.raises(ValidationError) as caught:
            do("change_password", alice, current=PASSWORD, new=new)
        assert "password" == caught.value.field
    assert alice.id == do("authenticate", "alice", PASSWORD).id


def test_the_password_of_a_deactivated_account_cannot_be_changed(do, alice):
    do("deactivate", alice)
    with pytest.raises(InvalidCredentialsError):
        do("change_password", alice, current=PASSWORD, new=BETTER)


# issue and redeem


def test_a_token_is_shown_once_and_stored_as_a_digest(do, database, alice, clock, told):
    token = do("issue_token", alice, RESET)
    with database.transaction() as work:
        row = work.user_tokens.get_by_hash(MINT.digest(token, TokenKind.RESET_PASSWORD))
    assert isinstance(token, SecretText)
    assert token.startswith("rsr1_")
    assert (alice.id, RESET, clock() + timedelta(hours=1)) == (
        row.user_id,
        row.purpose,
        row.expires_at,
    )
    assert ("TokenIssued", {"purpose": "reset_password"}) == told(alice)[-1]


def test_a_reset_sets_the_password_and_ends_everything_that_was_open(
    do, database, alice, session_of_alice, told
):
    for _ in range(5):
        with pytest.raises(InvalidCredentialsError):
            do("authenticate", "alice@example.com", "wrong")
    token = do("issue_token", alice, RESET)
    do("reset_password", token, BETTER)
    assert 0 == open_sessions(database, alice)
    assert alice.id == do("authenticate", "alice@example.com", BETTER).id
    assert ("PasswordReset", {"sessions_revoked": 1}) == told(alice)[2]


def test_a_token_is_redeemed_once(do, alice):
    token = do("issue_token", alice, RESET)
    do("reset_password", token, BETTER)
    with pytest.raises(CodeReusedError, match="used before"):
        do("reset_password", token, "yet another pass phrase")


@pytest.mark.parametrize(
    ("purpose", "method", "args", "lifetime"),
    [
        (RESET, "reset_password", [BETTER], timedelta(hours=1)),
        (VERIFY, "verify_email", [], timedelta(hours=48)),
    ],
)
def test_a_token_dies_at_the_end_of_its_life(do, alice, clock, purpose, method, args, lifetime):
    token = do("issue_token", alice, purpose)
    clock.advance(lifetime)
    with pytest.raises(InvalidCodeError, match="wrong or has expired"):
        do(method, token, *args)
    clock.advance(timedelta(microseconds=-1))
    assert alice.id == do(method, token, *args).id


def test_a_newer_token_voids_the_earlier_one_of_its_purpose_only(do, alice):
    first, verify, second = (do("issue_token", alice, each) for each in (RESET, VERIFY, RESET))
    with pytest.raises(InvalidCodeError):
        do("reset_password", first, BETTER)
    assert alice.id == do("verify_email", verify).id
    assert alice.id == do("reset_password", second, BETTER).id


def test_a_token_of_one_purpose_is_none_of_the_other(do, alice):
    reset, verify = do("issue_token", alice, RESET), do("issue_token", alice, VERIFY)
    with pytest.raises(InvalidCodeError):
        do("verify_email", reset)
    with pytest.raises(InvalidCodeError):
        do("reset_password", verify, BETTER)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "rsr1_",
        "' OR 1=1 --",
        "a" * 1_000_000,
        "rsr1_" + "\0" * 49,
        MINT.issue(TokenKind.RESET_PASSWORD).text,
    ],
    ids=["empty", "prefix", "injection", "megabyte", "nul", "never issued"],
)
def test_an_unknown_token_is_refused(do, alice, token):
    with pytest.raises(InvalidCodeError, match="wrong or has expired"):
        do("reset_password", token, BETTER)


def test_a_digest_under_another_purpose_is_refused(do, database, alice):
    # Somebody who can write rows plants a token under the wrong purpose.
    token = do("issue_token", alice, VERIFY)
    with database.transaction() as work:
        work.user_tokens.get_by_hash(MINT.digest(token, TokenKind.VERIFY_EMAIL)).purpose = RESET
    with pytest.raises(InvalidCodeError):
        do("verify_email", token)


def test_a_refused_password_leaves_the_token_good(do, alice):
    token = do("issue_token", alice, RESET)
    with pytest.raises(ValidationError):
        do("reset_password", token, "short")
    assert alice.id == do("reset_password", token, BETTER).id


def test_a_token_redeemed_in_a_unit_that_is_rolled_back_stays_good(do, accounts, database, alice):
    token = do("issue_token", alice, RESET)

    def interrupted():
        with database.transaction() as work:
            accounts.reset_password(work, token, BETTER)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        interrupted()
    assert alice.id == do("reset_password", token, BETTER).id


def test_a_token_voided_between_the_look_and_the_use_is_refused(accounts, database, alice):
    with database.transaction() as work:
        token = accounts.issue_token(work, alice, RESET)
        accounts._tokens.find(work, token, RESET)
        work.user_tokens.void(alice.id)
        with pytest.raises(InvalidCodeError):
            accounts._tokens.redeem(work, token, RESET)


# e-mail


def test_an_address_is_proved_once_and_told_once(do, alice, clock, told):
    clock.advance(60)
    proved_at = clock()
    assert proved_at == do("verify_email", do("issue_token", alice, VERIFY)).verified_at
    clock.advance(60)
    assert proved_at == do("verify_email", do("issue_token", alice, VERIFY)).verified_at
    assert 1 == [event for event, _ in told(alice)].count("EmailVerified")


def test_a_reset_does_not_prove_the_address(do, alice):
    user = do("reset_password", do("issue_token", alice, RESET), BETTER)
    assert not user.is_verified


def test_a_deactivated_account_gets_no_tokens_and_its_tokens_die(do, alice):
    token = do("issue_token", alice, RESET)
    do("deactivate", alice)
    with pytest.raises(PermissionDeniedError, match="deactivated: reactivate it first"):
        do("issue_token", alice, RESET)
    do("reactivate", alice)
    with pytest.raises(InvalidCodeError):
        do("reset_password", token, BETTER)
