"""What holds when several people do the same to one account at the same time."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from rootstream_db.errors import (
    AuthenticationError,
    CodeReusedError,
    ConflictError,
    InvalidCredentialsError,
    RootStreamError,
)
from rootstream_db.models import TokenPurpose
from tests.factories import make_session

PASSWORD = "correct horse battery staple"
BETTER = "another horse, another staple"
RESET = TokenPurpose.RESET_PASSWORD


@pytest.fixture
def accounts(committed_accounts):
    return committed_accounts


@pytest.fixture
def database(committed_database):
    return committed_database


@pytest.fixture
def alice(committed_alice):
    return committed_alice


@pytest.fixture
def do(accounts, database):
    """Call a method of the manager in a transaction of its own."""

    def do(method, *args, **named):
        with database.transaction() as work:
            return getattr(accounts, method)(work, *args, **named)

    return do


def outcomes(threads, call):
    """Call from that many threads at once; count what came of it, errors by their code."""
    start = threading.Barrier(threads)

    def one(number):
        start.wait(30)
        try:
            call(number)
        except RootStreamError as error:
            return error.code
        return "ok"

    with ThreadPoolExecutor(threads) as pool:
        return Counter(pool.map(one, range(threads)))


def in_thread(call):
    """Run a call in another thread to its end, so that its unit is no part of ours."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result(30)


def wait_for_a_lock(database):
    """Return once somebody waits for a lock in this database."""
    query = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    deadline = time.monotonic() + 10
    waiting = 0
    while not waiting:
        assert time.monotonic() < deadline, "nobody waits for a lock"
        with database.read() as work:
            waiting = work.session.scalar(query)


def test_of_many_parallel_guesses_exactly_five_are_looked_at(do, alice, hasher):
    counted = outcomes(20, lambda number: do("authenticate", "alice", f"guess {number}"))
    assert {"auth.invalid_credentials": 5, "auth.too_many_attempts": 15} == counted
    assert 5 == hasher.verified


def test_parallel_guesses_at_an_unknown_login_are_counted_alike(do, hasher):
    counted = outcomes(20, lambda number: do("authenticate", "nobody", f"guess {number}"))
    assert {"auth.invalid_credentials": 5, "auth.too_many_attempts": 15} == counted
    assert 5 == hasher.verified


def test_a_login_that_verified_the_old_password_fails_after_the_change(do, alice, hasher):
    def change_meanwhile():
        hasher.after_verify = lambda: None
        in_thread(lambda: do("change_password", alice, current=PASSWORD, new=BETTER))

    hasher.after_verify = change_meanwhile
    with pytest.raises(InvalidCredentialsError):
        do("authenticate", "alice", PASSWORD)
    assert alice.id == do("authenticate", "alice", BETTER).id


def test_a_login_that_verified_before_a_deactivation_fails_after_it(do, alice, hasher):
    def deactivate_meanwhile():
        hasher.after_verify = lambda: None
        in_thread(lambda: do("deactivate", alice))

    hasher.after_verify = deactivate_meanwhile
    with pytest.raises(InvalidCredentialsError):
        do("authenticate", "alice", PASSWORD)


def test_a_change_that_verified_the_old_password_fails_after_another_change(do, alice, hasher):
    def change_meanwhile():
        hasher.after_verify = lambda: None
        in_thread(lambda: do("change_password", alice, current=PASSWORD, new=BETTER))

    hasher.after_verify = change_meanwhile
    with pytest.raises(InvalidCredentialsError, match="changed by somebody else meanwhile"):
        do("change_password", alice, current=PASSWORD, new="the password of an intruder")
    assert alice.id == do("authenticate", "alice", BETTER).id


def test_the_session_of_a_login_in_progress_ends_with_the_password(do, accounts, database, alice):
    change = threading.Thread(
        target=do, args=("change_password", alice), kwargs={"current": PASSWORD, "new": BETTER}
    )
    with database.transaction() as work:
        user = accounts.authenticate(work, "alice", PASSWORD)
        make_session(work, user)
        change.start()
        wait_for_a_lock(database)
    change.join(30)
    with database.transaction() as work:
        assert [] == work.sessions.list_open(alice.id, now=work.now)


def test_of_many_redeemers_one_gets_the_token(do, alice):
    token = do("issue_token", alice, RESET)
    counted = outcomes(8, lambda number: do("reset_password", token, f"{BETTER} {number}"))
    assert {"ok": 1, CodeReusedError.code: 7} == counted


def test_of_many_issued_tokens_one_lives(do, database, alice):
    assert {"ok": 8} == outcomes(8, lambda _: do("issue_token", alice, RESET))
    with database.transaction() as work:
        assert 1 == work.session.scalar(text("SELECT count(*) FROM user_tokens"))


def test_of_many_registrations_of_one_name_one_succeeds(do, database):
    def register(number):
        name = "bob" if number % 2 else "BOB"
        do("register", username=name, email=f"bob{number}@example.com", password=PASSWORD)

    assert {"ok": 1, ConflictError.code: 7} == outcomes(8, register)
    with database.transaction() as work:
        assert 1 == work.users.count()


def test_issuing_redeeming_and_changing_at_once_never_deadlocks(do, alice):
    tokens = [do("issue_token", alice, RESET)]

    def anything(number):
        for turn in range(5):
            kind = (number + turn) % 4
            try:
                if kind == 0:
                    tokens.append(do("issue_token", alice, RESET))
                elif kind == 1:
                    do("reset_password", tokens[-1], f"{BETTER} {number} {turn}")
                elif kind == 2:
                    do("update_profile", alice, display_name=f"{number} {turn}")
                else:
                    do("authenticate", "alice", PASSWORD)
            except AuthenticationError:
                continue

    # A deadlock would be storage.transient here, a wait that never ends storage.timeout.
    assert {"ok": 8} == outcomes(8, anything)
