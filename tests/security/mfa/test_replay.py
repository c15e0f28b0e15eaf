"""A code is good once: not for its time, not until a cache forgets, but once."""

from __future__ import annotations

import subprocess
import sys

import pytest
import redis

from rootstream_db.errors import CodeReusedError, InvalidCodeError

PROGRAM = """
import sys
from datetime import datetime
from rootstream_db import RootStream
from rootstream_db.errors import CodeReusedError
from rootstream_db.testing import FrozenClock, settings_for

database, cache, now, username, code = sys.argv[1:]
clock = FrozenClock(datetime.fromisoformat(now))
with RootStream(settings_for(database, cache), clock=clock) as rs, rs.transaction() as work:
    user = work.users.get_by_username(username)
    try:
        rs.mfa.verify_totp(work, user, code)
    except CodeReusedError:
        print("reused")
"""


def test_a_code_is_good_once(person):
    code = person.code()
    assert person.user.id == person.verify(code).user_id
    with pytest.raises(CodeReusedError):
        person.verify(code)


def test_an_older_code_is_dead_once_a_newer_one_was_used(person):
    older = person.code(-30)
    person.verify(person.code())
    with pytest.raises(CodeReusedError):
        person.verify(older)


@pytest.mark.parametrize("later", [5, 29, 31, 61, 91])
def test_a_used_code_stays_dead_within_its_window_and_after_it(person, clock, later):
    code = person.code()
    person.verify(code)
    clock.advance(later)
    with pytest.raises((CodeReusedError, InvalidCodeError)) as caught:
        person.verify(code)
    # Within the window it is recognised; later it is just a wrong code.
    assert isinstance(caught.value, CodeReusedError) == (later < 60)


def test_a_code_that_came_early_is_not_taken_again_when_its_time_comes(person, clock):
    early = person.code(30)
    person.verify(early)
    for _ in range(3):
        clock.advance(15)
        with pytest.raises(CodeReusedError):
            person.verify(early)


def test_the_code_that_finished_the_enrolment_is_no_login_code(rootstream, clock, person):
    with rootstream.transaction() as work:
        rootstream.mfa.unenroll(work, person.user, person.factor_id)
        enrollment = rootstream.mfa.enroll(work, person.user, label="Tablet", secret=person.secret)
    code = person.code()
    with rootstream.transaction() as work:
        rootstream.mfa.confirm(work, enrollment.id, code)
    with pytest.raises(CodeReusedError):
        person.verify(code)
    clock.advance(30)
    person.verify(person.code())


def test_a_used_code_stays_dead_when_redis_forgets_everything(person, redis_url):
    code = person.code()
    person.verify(code)
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    with pytest.raises(CodeReusedError):
        person.verify(code)


def test_a_used_code_is_dead_in_a_process_that_starts_later(
    person, clean_database_url, redis_url, clock
):
    code = person.code()
    person.verify(code)
    arguments = [clean_database_url, redis_url, clock().isoformat(), person.user.username, code]
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "reused\n" == result.stdout, result.stderr


def test_a_code_whose_login_was_rolled_back_is_not_spent(person):
    code = person.code()

    def fail():
        with person.rs.transaction() as work:
            person.rs.mfa.verify_totp(work, person.user, code)
            raise RuntimeError("the session could not be opened")

    with pytest.raises(RuntimeError):
        fail()
    person.verify(code)


def test_a_backup_code_is_good_once(person):
    code = person.backup_codes()[0]
    person.consume(code)
    with pytest.raises(CodeReusedError):
        person.consume(code)


def test_new_backup_codes_make_the_old_ones_void(person):
    old = person.backup_codes()
    new = person.backup_codes()
    with pytest.raises(InvalidCodeError):
        person.consume(old[0])
    person.consume(new[0])
