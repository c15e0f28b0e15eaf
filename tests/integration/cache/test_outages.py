from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from pydantic import SecretStr

from rootstream_db.cache.client import MOST_REMEMBERED, RedisCache
from rootstream_db.errors import CacheUnavailableError
from rootstream_db.settings import CacheSettings, RedisSettings
from tests.fixtures.redis_process import RedisProcess

MINUTE = timedelta(minutes=1)


def seconds(action) -> float:
    started = time.monotonic()
    action()
    return time.monotonic() - started


def recovers(cache):
    def check():
        try:
            cache.get("k")
        except CacheUnavailableError:
            return False
        return True

    return check


def test_read_through_answers_while_redis_is_down(fragile_server, fragile_cache):
    fragile_server.kill()
    answers = [fragile_cache.read_through("k", lambda: {"n": (1, 2)}, MINUTE) for _ in range(3)]
    assert [{"n": [1, 2]}] * 3 == answers
    assert 3 == fragile_cache.fallbacks
    assert not fragile_cache.is_available


def test_a_dead_redis_costs_one_timeout_and_not_one_for_each_call(fragile_server, fragile_cache):
    fragile_server.freeze()
    with ThreadPoolExecutor(8) as pool:
        took = seconds(
            lambda: list(pool.map(lambda i: fragile_cache.read_through("k", lambda: i), range(8)))
        )
        assert took < 3
    assert 2 > seconds(lambda: [fragile_cache.read_through("k", lambda: 1) for _ in range(1000)])


def test_an_outage_is_logged_once_and_its_end_once(
    fragile_server, fragile_cache, cache_log, eventually
):
    fragile_server.kill()
    for _ in range(50):
        fragile_cache.read_through("k", lambda: 1)
    fragile_server.start()
    eventually(recovers(fragile_cache))
    assert 1 == len(cache_log("cache: Redis is unavailable"))
    assert 1 == len(cache_log("cache: Redis is back"))
    assert fragile_cache.is_available


def test_commands_fail_with_a_clear_error_while_redis_is_down(fragile_server, fragile_cache):
    fragile_server.kill()
    with pytest.raises(CacheUnavailableError, match="cannot be used") as first:
        fragile_cache.get("k")
    assert "connection" == first.value.context["reason"]
    with pytest.raises(CacheUnavailableError, match="is down; the next attempt") as second:
        fragile_cache.set("k", 1)
    assert "circuit open" == second.value.context["reason"]
    with pytest.raises(CacheUnavailableError), fragile_cache.pipeline() as pipe:
        pipe.set("k", 1)
    with pytest.raises(CacheUnavailableError):
        fragile_cache.script("return 1")()


def test_a_restart_between_two_commands_is_not_noticed(fragile_server, fragile_cache):
    fragile_cache.set("k", 1)
    fragile_cache.increment("n")
    fragile_server.restart()
    assert fragile_cache.get("k") is None
    assert 1 == fragile_cache.increment("n")
    assert fragile_cache.is_available


def test_a_value_loaded_while_redis_dies_is_returned(fragile_server, fragile_cache):
    def load():
        fragile_server.kill()
        return 1

    assert 1 == fragile_cache.read_through("k", load, MINUTE)
    assert 1 == fragile_cache.stats().store_failures


def test_a_failed_load_while_redis_dies_raises_its_own_error(fragile_server, fragile_cache):
    def load():
        fragile_server.kill()
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        fragile_cache.read_through("k", load, MINUTE)


def test_who_waits_for_a_loader_when_redis_dies_loads_for_itself(fragile_server, fragile_cache):
    fragile_cache.client.set("k", b"\x00lease:somebody")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(fragile_cache.read_through, "k", lambda: 1)
        fragile_server.kill()
        assert 1 == answer.result(10)
    assert 1 == fragile_cache.fallbacks


def test_what_could_not_be_invalidated_is_gone_before_the_first_read_after_the_outage(
    fragile_server, fragile_cache, eventually
):
    fragile_cache.set("k", "stale")
    fragile_server.freeze()
    fragile_cache.invalidate("k", "other")
    fragile_cache.invalidate("k")
    assert 3 == fragile_cache.stats().invalidations_delayed
    fragile_server.thaw()
    eventually(recovers(fragile_cache))
    assert fragile_cache.get("k") is None


def test_an_invalidation_that_fails_again_is_kept_for_the_next_try(
    fragile_server, fragile_cache, eventually, monkeypatch
):
    fragile_cache.set("k", "stale")
    fragile_server.freeze()
    fragile_cache.invalidate("k")
    fragile_server.thaw()
    execute = fragile_cache._link.once.execute_command
    failures = iter([True])

    def fail_once(*command):
        if command[0] == "DEL" and next(failures, False):
            fragile_server.freeze()
        return execute(*command)

    monkeypatch.setattr(fragile_cache._link.once, "execute_command", fail_once)
    with pytest.raises(CacheUnavailableError):
        fragile_cache.ping()
    fragile_server.thaw()
    eventually(recovers(fragile_cache))
    assert fragile_cache.get("k") is None


def test_the_memory_for_invalidations_is_bounded(fragile_server, fragile_cache):
    fragile_server.kill()
    fragile_cache.invalidate(*[f"k{n}" for n in range(MOST_REMEMBERED + 5)])
    assert MOST_REMEMBERED == len(fragile_cache._remembered)


def test_ping_asks_even_during_an_outage_and_ends_it(fragile_server, fragile_cache):
    fragile_server.kill()
    started = time.monotonic()
    with pytest.raises(CacheUnavailableError):
        fragile_cache.ping()
    assert 2 > time.monotonic() - started
    assert not fragile_cache.is_available
    fragile_server.start()
    fragile_cache.ping()
    assert fragile_cache.is_available


def test_a_refused_port_fails_within_half_a_second():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = SecretStr(f"redis://:hunter2@127.0.0.1:{taken.getsockname()[1]}")
        with RedisCache(RedisSettings(url=url), ttls=CacheSettings()) as cache:
            started = time.monotonic()
            with pytest.raises(CacheUnavailableError, match="refused") as caught:
                cache.get("k")
            assert 2 > time.monotonic() - started
            assert "hunter2" not in f"{caught.value!r} {caught.value.as_dict()}"


@pytest.fixture
def guarded_server():
    server = RedisProcess("--requirepass", "correct").start()
    yield server
    server.remove()


def test_a_wrong_password_fails_quickly_and_says_so(guarded_server):
    settings = guarded_server.settings(password="hunter2")
    with RedisCache(settings, ttls=CacheSettings()) as cache:
        started = time.monotonic()
        with pytest.raises(CacheUnavailableError, match="refused the user name or pass") as caught:
            cache.get("k")
        assert 2 > time.monotonic() - started
    assert "credentials" == caught.value.context["reason"]
    assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_the_right_password_opens(guarded_server):
    settings = guarded_server.settings(password="correct")
    with RedisCache(settings, ttls=CacheSettings()) as cache:
        cache.set("k", 1)
        assert b"1" == cache.get("k")


def test_a_full_memory_refuses_writes_but_reads_go_on(fragile_server, fragile_cache):
    fragile_cache.set("k", 1)
    fragile_cache.client.config_set("maxmemory", "1")
    with pytest.raises(CacheUnavailableError, match="cannot serve") as caught:
        fragile_cache.set("k", 2)
    assert "refused" == caught.value.context["reason"]
    assert fragile_cache.is_available
    assert b"1" == fragile_cache.get("k")
    assert 5 == fragile_cache.read_through("missing", lambda: 5, MINUTE)
    assert 1 == fragile_cache.fallbacks


def test_a_busy_pool_is_an_error_but_no_outage(steady_server):
    settings = steady_server.settings(max_connections=1, socket_timeout=0.1)
    with (
        RedisCache(settings, ttls=CacheSettings()) as cache,
        cache.pipeline() as pipe,
    ):
        pipe.watch("k")
        with pytest.raises(CacheUnavailableError, match="No connection"):
            cache.increment("k")
        assert cache.is_available


def test_an_increment_is_not_sent_twice_when_the_connection_breaks(fragile_server, fragile_cache):
    """The server runs the command and dies before answering: a retry would double it."""
    fragile_cache.increment("n")
    fragile_server.freeze()
    with pytest.raises(CacheUnavailableError):
        fragile_cache.increment("n")
    fragile_server.thaw()
    fragile_cache.ping()
    assert b"2" == fragile_cache.get("n")
