from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

import pytest

from rootstream_db.cache.client import RedisCache
from rootstream_db.cache.pubsub import EventBus
from rootstream_db.settings import CacheSettings, RedisSettings
from tests.fixtures.redis_process import RedisProcess


@pytest.fixture(scope="session")
def steady_server() -> Iterator[RedisProcess]:
    """A server that no test harms."""
    server = RedisProcess().start()
    yield server
    server.remove()


@pytest.fixture
def fragile_server() -> Iterator[RedisProcess]:
    """A server of the test's own, to kill and restart."""
    server = RedisProcess().start()
    yield server
    server.remove()


@pytest.fixture
def redis_settings(steady_server: RedisProcess) -> RedisSettings:
    return steady_server.settings()


@pytest.fixture
def cache(redis_settings: RedisSettings) -> Iterator[RedisCache]:
    with RedisCache(redis_settings, ttls=CacheSettings()) as cache:
        yield cache
        cache.client.flushdb()


@pytest.fixture
def fragile_cache(fragile_server: RedisProcess) -> Iterator[RedisCache]:
    settings = fragile_server.settings(socket_timeout=0.5)
    with RedisCache(settings, ttls=CacheSettings()) as cache:
        yield cache


@pytest.fixture
def bus(redis_settings: RedisSettings) -> Iterator[EventBus]:
    with EventBus(redis_settings) as bus:
        yield bus


@pytest.fixture
def fragile_bus(fragile_server: RedisProcess) -> Iterator[EventBus]:
    with EventBus(fragile_server.settings(socket_timeout=0.5)) as bus:
        yield bus


@pytest.fixture
def cache_log(caplog: pytest.LogCaptureFixture) -> Callable[[str], list[str]]:
    """Return the messages of the cache's logger that contain a text."""
    caplog.set_level(logging.INFO, "rootstream_db.cache")

    def matching(text: str) -> list[str]:
        return [record.getMessage() for record in caplog.records if text in record.getMessage()]

    return matching


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], None]:
    """Wait until something becomes true, for at most ten seconds."""

    def wait(condition: Callable[[], object], seconds: float = 10.0) -> None:
        give_up_at = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < give_up_at, "it never became true"
            time.sleep(0.005)

    return wait
