"""When Redis or PostgreSQL is lost: what still holds, what is refused, and for how long."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from datetime import timedelta

import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr
from sqlalchemy import text

from rootstream_db.errors import (
    AuthBackendUnavailableError,
    DatabaseUnavailableError,
    InvalidTokenError,
    SessionRevokedError,
)
from rootstream_db.rootstream import RootStream
from rootstream_db.security.tokens import TokenKind
from rootstream_db.settings import RedisSettings
from tests.factories import MINT, make_user
from tests.fixtures.proxy import Proxy
from tests.fixtures.redis_process import RedisProcess
from tests.fixtures.sessions import wait_for

MAX_STALE = timedelta(minutes=1)


@pytest.fixture
def redis():
    """A Redis of the test's own, to freeze, kill and start again."""
    server = RedisProcess().start()
    yield server
    server.remove()


@pytest.fixture
def proxy(clean_database_url):
    """A way to PostgreSQL that can be closed."""
    at = conninfo_to_dict(clean_database_url)
    with Proxy(socket.AF_UNIX, f"{at['host']}/.s.PGSQL.{at['port']}") as proxy:
        yield proxy


@pytest.fixture
def open_site(clean_database_url, redis, proxy, clock, settings):
    """Make the data layer of one process, by the proxy if it is to lose PostgreSQL."""
    made = []

    def open_site(*, by_proxy=False, without_redis=False):
        address = SecretStr("unix:///nowhere") if without_redis else redis.settings().url
        impatient = RedisSettings(url=address, connect_timeout=0.25, socket_timeout=0.25)
        own = settings.model_copy(update={"redis": impatient})
        if by_proxy:
            name = conninfo_to_dict(clean_database_url)["dbname"]
            url = SecretStr(f"postgresql://postgres@127.0.0.1:{proxy.port}/{name}")
            database = own.database.model_copy(update={"url": url, "connect_timeout": 1.0})
            own = own.model_copy(update={"database": database})
        made.append(RootStream(own, clock=clock))
        return made[-1]

    yield open_site
    for one in made:
        one.close()


@pytest.fixture
def site(open_site):
    return open_site()


@pytest.fixture
def alice(site):
    with site.transaction() as work:
        return make_user(work)


@contextmanager
def frozen(redis):
    redis.freeze()
    try:
        yield
    finally:
        redis.thaw()


def log_in(site, user):
    with site.transaction() as work:
        return site.sessions.create(work, user)


def refuses(site, issued):
    """Make sure that the session is refused."""
    with pytest.raises(SessionRevokedError):
        site.sessions.validate(issued.token)
    return True


def cached(site, issued):
    """Return what Redis holds of a session."""
    return site.cache.client.get(f"rs:session:{issued.session.token_hash.hex()}")


def owed(site):
    """Return how many endings Redis has not been told of."""
    with site.database.read() as work:
        return work.session.scalar(text("SELECT count(*) FROM session_invalidations"))


# Redis


def test_without_redis_postgresql_answers(site, redis, alice):
    issued = log_in(site, alice)
    redis.kill()
    assert site.sessions.validate(issued.token)
    other = log_in(site, alice)
    assert site.sessions.validate(other.token)
    assert site.sessions.validate(site.sessions.rotate(other.token).token)
    result = site.sessions.revoke(issued.token)
    assert (1, False) == (result.revoked, result.immediate)
    with pytest.raises(SessionRevokedError):
        site.sessions.validate(issued.token)
    with pytest.raises(InvalidTokenError):
        site.sessions.validate(MINT.issue(TokenKind.SESSION).text)


def test_an_outage_is_told_from_an_end_that_holds_at_once(site, redis, alice, clock):
    issued = log_in(site, alice)
    with frozen(redis):
        result = site.sessions.revoke(issued.token)
    assert (False, clock() + MAX_STALE) == (result.immediate, result.effective_by)
    other = log_in(site, alice)
    site.sessions.validate(other.token)
    wait_for(lambda: site.sessions.revoke(log_in(site, alice).token).immediate)


def test_who_saw_nothing_of_an_outage_trusts_for_max_stale_at_most(site, open_site, alice, clock):
    cut_off = open_site(without_redis=True)
    issued = log_in(site, alice)
    result = cut_off.sessions.revoke(issued.token)
    assert (1, False, clock() + MAX_STALE) == (
        *(result.revoked, result.immediate, result.effective_by),
    )
    clock.advance(MAX_STALE - timedelta(seconds=1))
    assert site.sessions.validate(issued.token)
    clock.now = result.effective_by
    assert refuses(site, issued)


def test_who_saw_the_outage_trusts_nothing_from_before_it(site, open_site, redis, alice):
    witness = open_site()
    issued, other = log_in(site, alice), log_in(site, alice)
    with frozen(redis):
        assert witness.sessions.validate(issued.token)
        site.sessions.revoke(other.token)
    # For a moment it still takes Redis for lost; what it finds there later is as old as that.
    assert b"X" != cached(site, other)
    wait_for(lambda: refuses(witness, other) and cached(site, other) == b"X")


def test_the_next_call_tells_redis_what_it_missed(site, redis, alice):
    issued, other = log_in(site, alice), log_in(site, alice)
    with frozen(redis):
        site.sessions.revoke(issued.token)
    wait_for(lambda: site.sessions.refresh(other.token) and not owed(site))
    assert b"X" == cached(site, issued)


def test_cron_tells_redis_what_a_process_that_died_did_not(site, open_site, alice):
    cut_off = open_site(without_redis=True)
    issued, rotated = log_in(site, alice), log_in(site, alice)
    cut_off.sessions.revoke(issued.token)
    cut_off.sessions.rotate(rotated.token)
    cut_off.close()
    assert site.sessions.validate(issued.token)
    assert 2 == owed(site)
    open_site().sessions.delete_expired()
    assert (0, b"X", b"R") == (owed(site), cached(site, issued), cached(site, rotated))
    assert refuses(site, issued)
    assert refuses(site, rotated)


def test_nothing_is_forgotten_while_redis_stays_away(site, open_site, redis, alice):
    issued = log_in(site, alice)
    redis.kill()
    site.sessions.revoke(issued.token)
    site.sessions.delete_expired()
    assert 1 == owed(open_site())


def test_a_redis_that_comes_back_empty_changes_nothing(site, redis, alice):
    issued, ended = log_in(site, alice), log_in(site, alice)
    site.sessions.revoke(ended.token)
    redis.restart()
    assert site.sessions.validate(issued.token)
    with pytest.raises(SessionRevokedError):
        site.sessions.validate(ended.token)


def test_a_lost_connection_is_reason_to_ask_again(site, open_site, redis, alice):
    witness = open_site()
    issued = log_in(site, alice)
    assert witness.sessions.validate(issued.token)
    # As after a restart from an older copy: the entry is there, the mark is not.
    with site.transaction() as work:
        work.sessions.revoke_all(alice.id, now=work.now, reason="admin")
    assert witness.sessions.validate(issued.token)
    site.cache.client.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(SessionRevokedError):
        witness.sessions.validate(issued.token)


# PostgreSQL


def test_without_postgresql_what_was_checked_lately_holds(open_site, site, proxy, alice, clock):
    cut_off = open_site(by_proxy=True)
    issued = log_in(site, alice)
    assert cut_off.sessions.validate(issued.token)
    proxy.close()
    assert cut_off.sessions.validate(issued.token)
    clock.advance(MAX_STALE - timedelta(seconds=1))
    assert cut_off.sessions.validate(issued.token)
    clock.advance(1)
    with pytest.raises(AuthBackendUnavailableError):
        cut_off.sessions.validate(issued.token)


def test_without_postgresql_nothing_is_opened_and_nothing_ended(open_site, site, proxy, alice):
    cut_off = open_site(by_proxy=True)
    issued = log_in(site, alice)
    proxy.close()
    for call in (
        lambda: log_in(cut_off, alice),
        lambda: cut_off.sessions.revoke(issued.token),
        lambda: cut_off.sessions.rotate(issued.token),
        lambda: cut_off.sessions.refresh(issued.token),
    ):
        with pytest.raises(DatabaseUnavailableError):
            call()


def test_without_either_nobody_is_let_in(open_site, site, redis, proxy, alice):
    cut_off = open_site(by_proxy=True)
    issued = log_in(site, alice)
    assert cut_off.sessions.validate(issued.token)
    proxy.close()
    redis.kill()
    for _ in range(3):
        with pytest.raises(AuthBackendUnavailableError):
            cut_off.sessions.validate(issued.token)


def test_a_session_that_is_ending_is_not_trusted_while_postgresql_is_away(
    open_site, site, proxy, alice
):
    cut_off = open_site(by_proxy=True)
    issued = log_in(site, alice)
    assert cut_off.sessions.validate(issued.token)
    with pytest.raises(RuntimeError), site.transaction() as work:
        site.sessions.revoke_all_for_user(work, alice)
        raise RuntimeError
    proxy.close()
    with pytest.raises(AuthBackendUnavailableError):
        cut_off.sessions.validate(issued.token)
