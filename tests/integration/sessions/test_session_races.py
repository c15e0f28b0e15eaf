"""Many at once: logins against the limit, against a new password, rotations, and cleaners."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from rootstream_db.errors import (
    AuthenticationError,
    InvalidCredentialsError,
    RootStreamError,
    SessionRevokedError,
)

PASSWORD = "correct horse battery staple"
BETTER = "another horse, another staple"


def together(threads, call):
    """Call from that many threads at the same moment; return what came back, errors included."""
    start = threading.Barrier(threads)

    def one(number):
        start.wait(60)
        try:
            return call(number)
        except RootStreamError as error:
            return error

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, range(threads)))


def test_fifty_logins_at_once_leave_five_sessions_and_no_deadlock(another, alice):
    site = another(max_per_user=5)

    def log_in(_):
        with site.transaction() as work:
            return site.sessions.create(work, alice)

    issued = together(50, log_in)
    assert [] == [one for one in issued if isinstance(one, Exception)]
    letting_in = [one for one in issued if holds(site, one.token)]
    assert 5 == len(letting_in)
    with site.transaction() as work:
        listed = site.sessions.list_for_user(work, alice)
    assert {one.session.id for one in letting_in} == {row.id for row in listed}


def test_no_login_outlives_the_password_it_used(rootstream, another):
    elsewhere = another()
    with rootstream.transaction() as work:
        user = rootstream.accounts.register(
            work, username="bob", email="bob@example.com", password=PASSWORD
        )
    passwords = [PASSWORD, BETTER]
    for _ in range(5):
        current, new = passwords

        def act(number, current=current, new=new):
            if number == 3:
                with rootstream.transaction() as work:
                    rootstream.accounts.change_password(work, user, current=current, new=new)
                return None
            site = (rootstream, elsewhere)[number % 2]
            # Authentication and opening in units of their own, as a web application might.
            with site.transaction() as work:
                found = site.accounts.authenticate(work, "bob", current)
            with site.transaction() as work:
                return site.sessions.create(work, found)

        results = together(4, act)
        for result in results:
            if result is None or isinstance(result, InvalidCredentialsError):
                continue
            assert not isinstance(result, Exception), result
            for site in (rootstream, elsewhere):
                assert not holds(site, result.token)
        passwords.reverse()
        with rootstream.transaction() as work:
            assert [] == rootstream.sessions.list_for_user(work, user)


def test_of_two_rotations_at_once_one_has_a_child(rootstream, log_in, alice):
    for _ in range(10):
        issued = log_in()
        results = together(2, lambda _, token=issued.token: rootstream.sessions.rotate(token))
        assert {"IssuedSession": 1, "SessionRevokedError": 1} == Counter(
            type(result).__name__ for result in results
        )
        (child,) = [one for one in results if not isinstance(one, Exception)]
        # Who came second is no thief: the one who came first goes on.
        assert holds(rootstream, child.token)
        assert not holds(rootstream, issued.token)


def test_a_token_from_before_the_login_is_dead_after_it(rootstream, log_in, alice):
    planted = log_in()
    with rootstream.transaction() as work:
        issued = rootstream.sessions.reauthenticate(work, planted.token, alice)
    assert holds(rootstream, issued.token)
    assert not holds(rootstream, planted.token)


def test_rotations_and_the_end_of_all_sessions_leave_nothing_alive(rootstream, another, alice):
    sites = [rootstream, another()]
    for _ in range(10):
        with rootstream.transaction() as work:
            user = work.users.get_one(alice.id)
            issued = [rootstream.sessions.create(work, user) for _ in range(3)]

        def act(number, issued=issued):
            if number == 3:
                with rootstream.transaction() as work:
                    rootstream.sessions.revoke_all_for_user(work, alice.id)
                return None
            return sites[number % 2].sessions.rotate(issued[number].token)

        made = [one for one in together(4, act) if one and not isinstance(one, Exception)]
        for one in (*issued, *made):
            assert not any(holds(site, one.token) for site in sites)


def test_two_cleaners_and_a_user_get_along(rootstream, another, log_in, clock):
    sites = [rootstream, another()]
    for _ in range(8):
        log_in()
    clock.advance(timedelta(days=30, seconds=1))
    kept = log_in()

    def act(number):
        if number < 2:
            return sites[number].sessions.delete_expired(batch=2)
        return sites[number % 2].sessions.refresh(kept.token).session_id

    deleted = together(4, act)
    assert 8 == sum(deleted[:2])
    assert [kept.session.id] * 2 == deleted[2:]


def test_uses_from_many_threads_are_written_down_once(rootstream, log_in, clock):
    issued = log_in()
    clock.advance(60)
    seen = together(8, lambda _: rootstream.sessions.validate(issued.token).session_id)
    assert [issued.session.id] * 8 == seen
    with rootstream.transaction() as work:
        assert clock() == work.sessions.get_one(issued.session.id).last_seen_at


@pytest.mark.parametrize("kept", [False, True])
def test_a_theft_is_found_however_many_come_with_the_old_token(
    rootstream, another, log_in, clock, kept
):
    first = log_in()
    second = rootstream.sessions.rotate(first.token)
    clock.advance(11)
    if kept:
        rootstream.cache.client.flushdb()
    results = together(8, lambda _: rootstream.sessions.validate(first.token))
    assert {SessionRevokedError} == {type(result) for result in results}
    assert not holds(another(), second.token)


def holds(site, token):
    try:
        site.sessions.validate(token)
    except AuthenticationError:
        return False
    return True
