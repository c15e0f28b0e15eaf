"""Login: in any case, without telling who exists, locked after guesses."""

from __future__ import annotations

import statistics
import time
from datetime import timedelta

import pytest

from rootstream_db.errors import (
    InvalidCredentialsError,
    TooManyAttemptsError,
    ValidationError,
)
from rootstream_db.security.passwords import PasswordHasher
from rootstream_db.services.accounts import AccountManager
from rootstream_db.services.event_store import EventStore
from rootstream_db.settings import AccountSettings
from tests.factories import MINT

PASSWORD = "correct horse battery staple"


def log_in(accounts, database, login="alice", password=PASSWORD, **over):
    with database.transaction() as work:
        return accounts.authenticate(work, login, password, **over)


def guess(accounts, database, login="alice", *, times=1):
    """Guess wrongly and return what each guess was answered."""
    answers = []
    for _ in range(times):
        with pytest.raises((InvalidCredentialsError, TooManyAttemptsError)) as caught:
            log_in(accounts, database, login, "wrong")
        answers.append(caught.value)
    return answers


@pytest.mark.parametrize(
    "login", ["Alice", "alice", "ALICE", " alice ", "Alice@example.com", "ALICE@EXAMPLE.COM"]
)
def test_a_user_logs_in_by_name_or_address_in_any_case(accounts, database, alice, login):
    assert alice.id == log_in(accounts, database, login).id


def test_a_login_is_recorded_and_told(accounts, database, alice, clock, told, personal):
    clock.advance(60)
    user = log_in(accounts, database, ip_address="2001:DB8::1")
    assert clock() == user.last_login_at
    assert ("UserLoggedIn", {"rehashed": False}) == told(alice)[-1]
    assert {"ip_address": "2001:db8::1"} == personal(alice)[-1]


def test_what_is_no_ip_address_is_refused_before_anything_is_counted(accounts, database, alice):
    for _ in range(9):
        with pytest.raises(ValidationError, match="neither an IPv4 nor"):
            log_in(accounts, database, ip_address="DROP TABLE users")
    assert log_in(accounts, database)


def test_unknown_wrong_and_deactivated_are_answered_alike(accounts, database, alice, hasher):
    with database.transaction() as work:
        bob = accounts.register(
            work, username="bob", email="bob@example.com", password="a pass phrase of bob"
        )
        accounts.deactivate(work, bob)
    answers = set()
    attempts = [("nobody", PASSWORD), ("alice", "wrong"), ("bob", "a pass phrase of bob")]
    for login, password in attempts:
        before = hasher.verified
        with pytest.raises(InvalidCredentialsError) as caught:
            log_in(accounts, database, login, password)
        error = caught.value
        answers.add((type(error), str(error), str(error.context), hasher.verified - before))
    expected = (InvalidCredentialsError, "the login or the password is wrong", "{}", 1)
    assert {expected} == answers


def test_unknown_and_wrong_take_the_same_time_at_the_real_cost(database, clock):
    settings = AccountSettings(lockout_failures=1000)
    events = EventStore(database, clock=clock)
    accounts = AccountManager(database, events, settings, tokens=MINT)
    with database.transaction() as work:
        accounts.register(work, username="alice", email="alice@example.com", password=PASSWORD)

    def median(login):
        samples = []
        for _ in range(5):
            started = time.process_time()
            guess(accounts, database, login)
            samples.append(time.process_time() - started)
        return statistics.median(samples)

    # Processor time of this process: Argon2's 0.2 s in both, whatever else the machine does.
    assert 0.6 < median("nobody") / median("alice") < 1.6


@pytest.mark.parametrize(
    "login", ["", "al\0ice", "a" * 1_000_000, "\ud800"], ids=["empty", "nul", "megabyte", "broken"]
)
def test_what_nobody_can_be_called_is_refused_without_a_look(accounts, database, hasher, login):
    with pytest.raises(InvalidCredentialsError, match="the login or the password is wrong"):
        log_in(accounts, database, login)
    assert 0 == hasher.verified


def test_a_megabyte_of_password_is_refused_without_hashing_it(accounts, database, alice, hasher):
    with pytest.raises(InvalidCredentialsError):
        log_in(accounts, database, password="a" * 1_000_000)
    assert 0 == hasher.verified


@pytest.mark.parametrize("password", ["", "\0", "\ud800"], ids=ascii)
def test_a_password_of_strange_text_is_just_wrong(accounts, database, alice, password):
    with pytest.raises(InvalidCredentialsError):
        log_in(accounts, database, password=password)


# lockout


@pytest.mark.parametrize("login", ["alice", "nobody", "nobody@example.com"])
def test_a_login_is_locked_after_five_guesses_whether_it_exists_or_not(
    accounts, database, alice, hasher, login
):
    answers = guess(accounts, database, login, times=7)
    expected = ["auth.invalid_credentials"] * 5 + ["auth.too_many_attempts"] * 2
    assert expected == [error.code for error in answers]
    assert (30.0, "too many failed logins: try again in 30 s") == (
        answers[-1].retry_after,
        str(answers[-1]),
    )
    assert 5 == hasher.verified


def test_the_right_password_does_not_open_a_locked_login(accounts, database, alice, clock):
    guess(accounts, database, times=5)
    clock.advance(29)
    with pytest.raises(TooManyAttemptsError) as caught:
        log_in(accounts, database)
    assert 1.0 == caught.value.retry_after
    clock.advance(1)
    assert alice.id == log_in(accounts, database).id


def test_every_further_failure_doubles_the_lock_up_to_the_longest(accounts, database, clock):
    guess(accounts, database, times=4)
    waits = []
    for _ in range(8):
        guess(accounts, database)
        waits.append(guess(accounts, database)[0].retry_after)
        clock.advance(waits[-1])
    assert [30, 60, 120, 240, 480, 900, 900, 900] == waits


def test_four_failures_are_forgotten_after_the_window(accounts, database, clock):
    guess(accounts, database, times=4)
    clock.advance(timedelta(minutes=15))
    answers = guess(accounts, database, times=6)
    assert ["auth.invalid_credentials"] * 5 == [error.code for error in answers[:5]]
    assert "auth.too_many_attempts" == answers[5].code


def test_a_success_forgets_the_failures_of_both_names(accounts, database, alice):
    guess(accounts, database, "alice", times=4)
    guess(accounts, database, "alice@example.com", times=4)
    log_in(accounts, database, "ALICE")
    answers = [
        *guess(accounts, database, "alice", times=4),
        *guess(accounts, database, "alice@example.com", times=4),
    ]
    assert {"auth.invalid_credentials"} == {error.code for error in answers}


def test_the_case_of_a_login_buys_no_more_guesses(accounts, database, alice):
    for login in ("alice", "ALICE", "Alice", " alice", "aLICE"):
        guess(accounts, database, login)
    assert "auth.too_many_attempts" == guess(accounts, database, "alicE")[0].code


def test_one_login_locked_leaves_others_alone(accounts, database, alice):
    guess(accounts, database, "bob", times=6)
    assert alice.id == log_in(accounts, database).id


def test_a_rollback_of_the_caller_refunds_no_guess(committed_accounts, committed_database):
    # authenticate() raises inside the block, so each of these transactions is rolled back.
    answers = guess(committed_accounts, committed_database, times=6)
    assert "auth.too_many_attempts" == answers[5].code


def test_idle_counts_and_expired_tokens_are_cleaned_up(accounts, database, alice, clock):
    guess(accounts, database, "nobody", times=2)
    guess(accounts, database, "alice", times=5)
    clock.advance(timedelta(minutes=15, seconds=1))
    with database.transaction() as work:
        # The lock of alice ended less than a window ago; her count still matters.
        assert 1 == accounts.delete_expired(work)
    clock.advance(30)
    with database.transaction() as work:
        assert [1, 0] == [accounts.delete_expired(work), accounts.delete_expired(work)]


# rehash


def test_a_login_renews_a_hash_made_at_another_cost(accounts, database, alice, clock, told):
    events = EventStore(database, clock=clock)
    stronger = AccountManager(database, events, AccountSettings(), tokens=MINT)
    user = log_in(stronger, database)
    assert user.password_hash.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert PasswordHasher().verify(user.password_hash, PASSWORD)
    assert {"rehashed": True} == told(alice)[-1][1]


def test_a_deactivated_account_is_not_rehashed_which_would_take_twice_as_long(
    accounts, database, alice, clock, hasher
):
    with database.transaction() as work:
        accounts.deactivate(work, alice)
    costly = type(hasher)("rfc9106-low-memory")
    events = EventStore(database, clock=clock)
    stronger = AccountManager(database, events, AccountSettings(), tokens=MINT, hasher=costly)
    with pytest.raises(InvalidCredentialsError):
        log_in(stronger, database)
    assert (1, 0) == (costly.verified, costly.hashed)


def test_a_login_keeps_a_hash_of_the_right_cost(accounts, database, alice):
    assert alice.password_hash == log_in(accounts, database).password_hash
