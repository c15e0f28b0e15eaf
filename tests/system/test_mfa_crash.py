"""Logins with a second factor, killed at every step: a code and its session, both or neither.

The login runs in a real process that is ended by a real SIGKILL at one step of its conversation
with PostgreSQL and Redis, then at the next, until one survives.
"""

from __future__ import annotations

from functools import partial

import pytest

from rootstream_db.errors import CodeReusedError, PasskeyChallengeSpentError
from tests.fixtures.authenticator import Authenticator
from tests.fixtures.doom import fork_doomed, was_killed
from tests.fixtures.mfa import UNTHROTTLED, enroll

pytestmark = [
    pytest.mark.slow,
    # Children only log in and die; they never touch what the parent's threads may hold.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


@pytest.fixture
def person(unthrottled, clock):
    passkeys = {"passkey_rp_id": "example.com", "passkey_origins": ("https://live.example.com",)}
    settings = UNTHROTTLED.model_copy(update=passkeys)
    unthrottled.settings = unthrottled.settings.model_copy(update={"mfa": settings})
    return enroll(unthrottled, clock)


def log_in(person, check):
    """Check a second factor and open a session, in one transaction."""
    with person.rs.transaction() as work:
        proof = check(work)
        person.rs.sessions.create(work, work.users.get_one(person.user.id), proof=proof)


def open_sessions(person):
    with person.rs.transaction() as work:
        return len(person.rs.sessions.list_for_user(work, person.user))


def end_sessions(person):
    with person.rs.transaction() as work:
        person.rs.sessions.revoke_all_for_user(work, person.user)


def test_every_single_step_of_a_login_with_a_code_may_be_the_last(person):
    step = 0
    killed = True
    while killed:
        step += 1
        person.clock.advance(90)
        code = person.code()

        def check(work, code=code):
            return person.rs.mfa.verify_totp(work, person.user, code)

        killed = was_killed(fork_doomed(partial(log_in, person, check), at=step))
        left_behind = open_sessions(person)
        try:
            log_in(person, check)
        except CodeReusedError:
            # The code is spent: so the session is there.
            assert 1 == left_behind, step
        else:
            assert 0 == left_behind, step
        assert 1 == open_sessions(person), step
        end_sessions(person)
    assert 20 < step


def test_every_single_step_of_a_login_with_a_backup_code_may_be_the_last(person):
    step = 0
    killed = True
    codes: list[str] = []
    while killed:
        step += 1
        codes = codes or person.backup_codes()
        code = codes.pop()

        def check(work, code=code):
            return person.rs.mfa.consume_backup_code(work, person.user, code)

        killed = was_killed(fork_doomed(partial(log_in, person, check), at=step))
        left_behind = open_sessions(person)
        try:
            log_in(person, check)
        except CodeReusedError:
            assert 1 == left_behind, step
        else:
            assert 0 == left_behind, step
        assert 1 == open_sessions(person), step
        end_sessions(person)
    assert 20 < step


def test_every_single_step_of_a_login_with_a_passkey_may_be_the_last(person):
    passkeys = person.rs.mfa.passkeys
    with person.rs.transaction() as work:
        ceremony = passkeys.begin_registration(work, person.user)
    key = Authenticator()
    with person.rs.transaction() as work:
        passkeys.finish_registration(work, ceremony.id, key.create(ceremony.options))
    step = refused = 0
    killed = True
    while killed:
        step += 1
        with person.rs.transaction() as work:
            ceremony = passkeys.begin_authentication(work, person.user)
        answer = key.get(ceremony.options)

        def check(work, ceremony=ceremony, answer=answer):
            return passkeys.finish_authentication(work, ceremony.id, answer)

        killed = was_killed(fork_doomed(partial(log_in, person, check), at=step))
        left_behind = open_sessions(person)
        try:
            log_in(person, check)
        except PasskeyChallengeSpentError:
            # Nobody knows what became of the answer, so it is not taken again.
            refused += 1
            assert left_behind in {0, 1}, step
        else:
            assert 0 == left_behind, step
        assert open_sessions(person) <= 1, step
        end_sessions(person)
    assert 20 < step
    assert 10 < refused
