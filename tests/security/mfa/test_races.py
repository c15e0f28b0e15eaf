"""One code, many hands at the same moment: one of them gets in."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from contextlib import ExitStack, suppress
from functools import partial

import pytest

from rootstream_db.errors import EnrollmentExpiredError
from tests.fixtures.mfa import enroll, together

PROGRAM = """
import sys
from datetime import datetime
from rootstream_db import RootStream
from rootstream_db.errors import RootStreamError
from rootstream_db.testing import FrozenClock, settings_for

database, cache, now, username, code = sys.argv[1:]
clock = FrozenClock(datetime.fromisoformat(now))
with RootStream(settings_for(database, cache), clock=clock) as rs:
    with rs.transaction() as work:
        user = work.users.get_by_username(username)
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        with rs.transaction() as work:
            rs.mfa.verify_totp(work, user, code)
        print("ok")
    except RootStreamError as error:
        print(error.code)
"""

REUSED, WRONG, LOCKED = "auth.code_reused", "auth.invalid_code", "auth.too_many_attempts"


@pytest.fixture
def free(unthrottled, clock):
    return enroll(unthrottled, clock)


def test_of_fifty_threads_with_one_code_one_is_let_in(free):
    counted = together(50, [partial(free.verify, free.code())] * 50)

    assert {"ok": 1, REUSED: 49} == counted
    assert {"accepted": 2, "reused": 49} == free.outcomes()


def test_of_fifty_threads_with_one_code_one_is_let_in_under_the_lockout_too(person):
    counted = together(50, [partial(person.verify, person.code())] * 50)

    assert 1 == counted["ok"]
    assert {"ok", REUSED, LOCKED} >= set(counted)


@pytest.mark.slow
def test_of_four_processes_with_one_code_one_is_let_in(free, clean_database_url, redis_url, clock):
    arguments = [clean_database_url, redis_url, clock().isoformat(), free.user.username]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", PROGRAM, *arguments, free.code()],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            )
            for _ in range(4)
        ]
        for process in processes:
            stack.callback(process.kill)
        lines = [process.stdout.readline() for process in processes if process.stdout]
        assert [b"ready\n"] * 4 == lines
        for process in processes:
            if process.stdin:
                process.stdin.write(b"go\n")
                process.stdin.flush()
        told = Counter(process.communicate(timeout=60)[0].decode().strip() for process in processes)
    assert {"ok": 1, REUSED: 3} == told


def test_three_steps_at_once_let_in_at_most_three_and_only_rising(free):
    codes = [free.code(-30), free.code(), free.code(30)]
    counted = together(30, [partial(free.verify, code) for code in codes * 10])

    assert 1 <= counted["ok"] <= 3
    assert 30 == counted["ok"] + counted[REUSED]
    # Whatever came first, the newest one is spent now, and everything before it.
    assert {REUSED: 3} == together(3, [partial(free.verify, code) for code in codes])


def test_one_code_of_two_devices_is_spent_once_on_each(unthrottled, clock, free):
    with unthrottled.transaction() as work:
        twin = unthrottled.mfa.enroll(work, free.user, label="Tablet", secret=free.secret)
    with unthrottled.transaction() as work:
        unthrottled.mfa.confirm(work, twin.id, free.code())
    clock.advance(300)

    counted = together(20, [partial(free.verify, free.code())] * 20)

    assert {"ok": 2, REUSED: 18} == counted


def test_of_fifty_threads_with_one_backup_code_one_is_let_in(free):
    code = free.backup_codes()[3]
    counted = together(50, [partial(free.consume, code)] * 50)

    assert {"ok": 1, REUSED: 49} == counted


@pytest.mark.slow
def test_of_fifty_threads_with_ten_backup_codes_each_ten_are_let_in(free):
    codes = free.backup_codes()
    # Every thread sends every code.
    calls = [partial(free.consume, code) for code in codes for _ in range(50)]
    counted = together(50, calls)

    assert {"ok": 10, REUSED: 490} == counted
    with free.rs.transaction() as work:
        assert 0 == free.rs.mfa.status(work, free.user).backup_codes_left


def test_of_a_hundred_wrong_guesses_five_are_looked_at(person):
    before = person.outcomes()
    counted = together(100, [partial(person.verify, person.wrong())] * 100)

    assert {WRONG: 5, LOCKED: 95} == counted
    assert {"wrong": 5, "throttled": 95} == person.outcomes() - before


def test_of_a_hundred_guesses_the_right_one_has_no_better_chance(person):
    # Whoever comes sixth is refused, right or wrong, before anybody looks at the code.
    wrong = [partial(person.verify, person.wrong())] * 5
    assert {WRONG: 5} == together(1, wrong)

    assert {LOCKED: 20} == together(20, [partial(person.verify, person.code())] * 20)


def test_of_a_hundred_wrong_backup_codes_five_are_looked_at(person):
    person.backup_codes()
    counted = together(100, [partial(person.consume, "A-0000-0000-0000")] * 100)

    assert {WRONG: 5, LOCKED: 95} == counted


def test_a_rollback_gives_no_guess_back(person):
    class Undo(Exception):  # noqa: N818 - not an error
        pass

    for _ in range(5):
        with pytest.raises(Undo), person.rs.transaction() as work:
            with pytest.raises(Exception, match="wrong"):
                person.rs.mfa.verify_totp(work, person.user, person.wrong())
            raise Undo
    assert {LOCKED: 1} == together(1, [partial(person.verify, person.code())])


@pytest.mark.slow
def test_verifying_enrolling_and_removing_at_once_never_deadlocks(free):
    mfa, rs = free.rs.mfa, free.rs

    def add(label):
        with rs.transaction() as work:
            enrollment = mfa.enroll(work, free.user, label=label, secret=free.secret)
        with rs.transaction() as work:
            return mfa.confirm(work, enrollment.id, free.code())

    def change(number):
        # Every change ends the enrolments of the others.
        factor = None
        while factor is None:
            with suppress(EnrollmentExpiredError):
                factor = add(f"Device {number}")
        with rs.transaction() as work:
            mfa.unenroll(work, free.user, factor.id)

    def log_in():
        with rs.transaction() as work:
            mfa.verify_totp(work, free.user, free.code())
            # What opening a session does next.
            work.users.lock(free.user.id)

    calls = [partial(change, number) for number in range(20)] + [log_in] * 40
    counted = together(8, calls)

    # A deadlock would be storage.transient here, a wait that never ends storage.timeout.
    assert {"ok", REUSED} >= set(counted)
    assert 20 <= counted["ok"]
