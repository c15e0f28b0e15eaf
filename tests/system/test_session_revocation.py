"""A revoked token is refused by every process: within a second while Redis is up, and within
``max_stale`` when Redis is stopped, was killed mid-revoke, was emptied, or lost its subscribers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rootstream_db.rootstream import RootStream
from rootstream_db.testing import settings_for
from tests.factories import make_user
from tests.fixtures.redis_process import RedisProcess

PROGRAM = Path(__file__).with_name("session_validator.py")
CHECKOUT = Path(__file__).resolve().parents[2]
PROCESSES = 4
MAX_STALE = 2.0
MEMORY_TTL = 5.0
A_MOMENT = 1.0
"""What two busy cores may add to any wait."""

pytestmark = [pytest.mark.slow]


class Process:
    """One program, told what to do line by line."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self._answers = self._process.stdin, self._process.stdout

    def tell(self, order):
        self._orders.write(f"{json.dumps(order)}\n")
        self._orders.flush()

    def hear(self):
        line = self._answers.readline()
        assert line, "the process died"
        return line.strip()

    def wait(self):
        return self._process.wait(60)

    def end(self):
        self._process.kill()
        self._process.wait(10)
        self._orders.close()
        self._answers.close()


@pytest.fixture(scope="module")
def crew():
    """Four processes, for all the tests of this module."""
    started = [Process() for _ in range(PROCESSES)]
    yield started
    for one in started:
        one.end()


@pytest.fixture
def redis():
    server = RedisProcess().start()
    yield server
    server.remove()


@pytest.fixture
def order(clean_database_url, redis, token):
    """Say what a process is to do, and where."""

    def order(do, *, memory_ttl=0.0):
        return {
            "do": do,
            "token": token,
            "database": clean_database_url,
            "redis": redis.url,
            "max_stale": MAX_STALE,
            "memory_ttl": memory_ttl,
        }

    return order


@pytest.fixture
def watching(crew, order):
    """Let the processes watch the token, once each of them has let it in."""

    def watching(**named):
        for one in crew:
            one.tell(order("watch", **named))
        assert ["holds"] * PROCESSES == [one.hear() for one in crew]
        return crew

    return watching


@pytest.fixture
def killed(order):
    """Let a process end the session and kill it after the commit; return when it was dead."""

    def killed():
        revoker = Process()
        revoker.tell(order("revoke-and-die"))
        assert -signal.SIGKILL == revoker.wait()
        dead = time.monotonic()
        revoker.end()
        return dead

    return killed


@pytest.fixture
def site(clean_database_url, redis):
    with RootStream(settings_for(clean_database_url, redis.url)) as site:
        yield site


@pytest.fixture
def token(site):
    with site.transaction() as work:
        return site.sessions.create(work, make_user(work)).token


def refusals(made):
    """Return when each process refused the token for the first time."""
    heard = [one.hear().split() for one in made]
    assert ["refused"] * PROCESSES == [word for word, _ in heard]
    return [float(moment) for _, moment in heard]


def test_with_redis_up_it_is_refused_at_once(watching, token, site):
    crew = watching()
    result = site.sessions.revoke(token)
    revoked = time.monotonic()
    assert (1, True) == (result.revoked, result.immediate)
    assert max(refusals(crew)) - revoked < A_MOMENT


def test_processes_that_remember_sessions_hear_of_it(watching, token, site):
    crew = watching(memory_ttl=MEMORY_TTL)
    site.sessions.revoke(token)
    revoked = time.monotonic()
    assert max(refusals(crew)) - revoked < A_MOMENT


def test_with_redis_stopped_it_is_refused_within_max_stale(watching, token, site, redis):
    crew = watching()
    redis.freeze()
    try:
        result = site.sessions.revoke(token)
        revoked = time.monotonic()
        assert (1, False) == (result.revoked, result.immediate)
        assert max(refusals(crew)) - revoked < MAX_STALE + A_MOMENT
    finally:
        redis.thaw()


def test_with_redis_killed_it_is_refused_within_max_stale(watching, token, site, redis):
    crew = watching()
    redis.kill()
    assert 1 == site.sessions.revoke(token).revoked
    revoked = time.monotonic()
    assert max(refusals(crew)) - revoked < MAX_STALE + A_MOMENT


def test_when_the_revoker_is_killed_after_its_commit_it_is_refused_at_once(watching, killed):
    crew = watching()
    dead = killed()
    assert max(refusals(crew)) - dead < A_MOMENT


def test_when_it_is_killed_processes_that_remember_forget_soon(watching, killed):
    memory = 1.0
    crew = watching(memory_ttl=memory)
    dead = killed()
    assert max(refusals(crew)) - dead < memory + A_MOMENT


def test_when_redis_is_emptied_it_stays_refused(watching, order, token, site):
    crew = watching()
    site.sessions.revoke(token)
    site.cache.client.flushall()
    revoked = time.monotonic()
    assert max(refusals(crew)) - revoked < MAX_STALE + A_MOMENT
    crew[0].tell(order("revoke"))
    assert "revoked 0" == crew[0].hear()


def test_without_its_subscription_a_process_does_not_trust_its_memory(watching, token, site):
    crew = watching(memory_ttl=MEMORY_TTL)
    client = site.cache.client
    # From now on nobody can subscribe again, so that the word cannot reach anybody.
    client.acl_setuser("default", enabled=True, nopass=True, commands=["+@all", "-subscribe"])
    client.client_kill_filter(_type="pubsub")
    site.sessions.revoke(token)
    revoked = time.monotonic()
    assert max(refusals(crew)) - revoked < MAX_STALE + A_MOMENT
