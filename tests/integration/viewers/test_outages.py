"""Redis or PostgreSQL is down: players notice nothing, and nothing told is lost."""

from __future__ import annotations

import logging
import time

import pytest
from pydantic import SecretStr

from rootstream_db.cache import RedisCache
from rootstream_db.database import Database
from rootstream_db.errors import CacheUnavailableError, DatabaseUnavailableError
from rootstream_db.services.viewers import Heartbeat, ViewerManager
from rootstream_db.settings import CacheSettings, DatabaseSettings
from tests.factories import make_stream
from tests.fixtures.redis_process import RedisProcess


@pytest.fixture
def redis_server():
    """A Redis of the test's own that keeps what it has acknowledged."""
    server = RedisProcess("--appendonly", "yes", "--appendfsync", "always").start()
    yield server
    server.remove()


@pytest.fixture
def cache(redis_server):
    with RedisCache(redis_server.settings(socket_timeout=0.5), ttls=CacheSettings()) as cache:
        yield cache


@pytest.fixture
def viewers(committed_database, cache, clock):
    return ViewerManager(committed_database, cache, clock=clock)


@pytest.fixture
def stream_id(committed_database):
    with committed_database.transaction() as work:
        stream = make_stream(work)
        work.stream_live.get_one(stream.id).viewer_count = 42
        return stream.id


@pytest.fixture
def totals(committed_database):
    def read(stream_id: int) -> tuple[int, int, int]:
        with committed_database.transaction() as work:
            row = work.stream_totals.get_one(stream_id)
            return row.heartbeats, row.views, row.bytes_out

    return read


def test_players_notice_nothing_while_redis_is_down(redis_server, viewers, stream_id, caplog):
    redis_server.kill()
    with caplog.at_level(logging.WARNING):
        assert not viewers.heartbeat(stream_id, viewer="ann")
        assert 0 == viewers.heartbeat_many([Heartbeat(stream_id, "ann")] * 600)
        assert not viewers.leave(stream_id, viewer="ann")
    assert 602 == viewers.dropped
    assert 1 == caplog.text.count("Redis is unavailable")


def test_a_dead_redis_costs_players_no_time(redis_server, viewers, stream_id):
    redis_server.freeze()
    viewers.heartbeat(stream_id, viewer="ann")
    started = time.monotonic()
    for _ in range(200):
        viewers.heartbeat(stream_id, viewer="ann")
    assert 2 > time.monotonic() - started


def test_questions_are_answered_as_of_the_last_flush_while_redis_is_down(
    redis_server, viewers, stream_id
):
    redis_server.kill()
    assert 42 == viewers.count(stream_id)
    assert {stream_id: 42, 999: 0} == viewers.counts([stream_id, 999])
    assert [(stream_id, 42)] == viewers.top(3)
    assert not viewers.is_present(stream_id, viewer="ann")


def test_a_flush_says_that_redis_is_down(redis_server, viewers):
    redis_server.kill()
    with pytest.raises(CacheUnavailableError):
        viewers.flush()


def test_what_redis_acknowledged_survives_its_kill(redis_server, viewers, stream_id, totals, cache):
    taken = sum(viewers.heartbeat(stream_id, viewer=f"v{n}", bytes_out=3) for n in range(20))
    redis_server.restart()
    taken += sum(viewers.heartbeat(stream_id, viewer=f"v{n}", bytes_out=3) for n in range(20))
    assert 40 == taken
    viewers.flush()
    assert (40, 20, 120) == totals(stream_id)
    redis_server.restart()
    cache.ping()
    assert () == viewers.flush().flush_ids
    assert (40, 20, 120) == totals(stream_id)


def test_a_flush_that_lost_redis_halfway_is_finished_when_it_is_back(
    redis_server, viewers, stream_id, totals, cache, committed_database, monkeypatch
):
    """Redis dies after PostgreSQL has committed: the leftover flush must not be added again."""
    viewers.heartbeat(stream_id, viewer="ann", bytes_out=3)
    run = Database.run

    def run_then_lose_redis(database, fn, **options):
        result = run(database, fn, **options)
        redis_server.kill()
        return result

    monkeypatch.setattr(Database, "run", run_then_lose_redis)
    with pytest.raises(CacheUnavailableError):
        viewers.flush()
    monkeypatch.undo()
    redis_server.start()
    cache.ping()
    assert 1 == viewers.flush().repeated
    assert (1, 1, 3) == totals(stream_id)


def test_a_flush_without_postgresql_loses_nothing(viewers, stream_id, totals, cache, clock):
    nowhere = SecretStr("postgresql://nobody@127.0.0.1:1/nothing")
    settings = DatabaseSettings(url=nowhere, run_attempts=1, connect_timeout=1)
    viewers.heartbeat(stream_id, viewer="ann", bytes_out=3)
    with Database(settings, clock=clock) as unreachable:
        crippled = ViewerManager(unreachable, cache, clock=clock)
        for _ in range(2):
            with pytest.raises(DatabaseUnavailableError):
                crippled.flush()
    assert (0, 0, 0) == totals(stream_id)
    viewers.flush()
    assert (1, 1, 3) == totals(stream_id)
