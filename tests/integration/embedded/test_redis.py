"""An embedded Redis is a real one, whichever program it is."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from rootstream_db.embedded import EmbeddedRedis, RedisBinary, all_redis
from rootstream_db.embedded.process import Deadline
from rootstream_db.errors import EmbeddedServerError

FOUND = all_redis()
each_redis = pytest.mark.parametrize(
    "binary", FOUND, ids=[f"{each.source}-{each.version}" for each in FOUND]
)


@contextmanager
def client_of(server: EmbeddedRedis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        yield client


@each_redis
@pytest.mark.parametrize("tcp", [False, True], ids=["socket", "port"])
def test_data_is_found_again_by_the_next_start(
    folder: Path, binary: RedisBinary, *, tcp: bool
) -> None:
    with (
        EmbeddedRedis(folder, server=binary.server, tcp=tcp) as server,
        client_of(server) as client,
    ):
        client.set("word", "ünïcode")
    with (
        EmbeddedRedis(folder, server=binary.server, tcp=tcp) as server,
        client_of(server) as client,
    ):
        assert "ünïcode" == client.get("word")


@each_redis
def test_a_crashed_server_recovers_what_was_synced(folder: Path, binary: RedisBinary) -> None:
    settings = {"appendfsync": "always"}
    with EmbeddedRedis(folder, server=binary.server, settings=settings) as server:
        with client_of(server) as client:
            client.set("word", "kept")
        running = server._running()
        assert running is not None
        os.kill(running.pid, signal.SIGKILL)
        assert Deadline(10).wait(lambda: not server.is_running())
        server.start()
        with client_of(server) as client:
            assert "kept" == client.get("word")


@each_redis
def test_nothing_is_kept_without_persistence(folder: Path, binary: RedisBinary) -> None:
    with (
        EmbeddedRedis(folder, server=binary.server, persist=False) as server,
        client_of(server) as client,
    ):
        client.set("word", "lost")
    with (
        EmbeddedRedis(folder, server=binary.server, persist=False) as server,
        client_of(server) as client,
    ):
        assert client.get("word") is None


def test_a_user_who_counts_on_persistence_does_not_adopt_a_server_without(folder: Path) -> None:
    with EmbeddedRedis(folder, persist=False) as running:
        with pytest.raises(EmbeddedServerError, match="without persistence"):
            EmbeddedRedis(folder).start()
        assert running.is_running()
    assert not running.is_running()


def test_a_server_whose_starter_died_at_once_is_found_by_what_it_wrote(folder: Path) -> None:
    """The starter was killed after it started the server, before it wrote its number down."""
    with EmbeddedRedis(folder) as server:
        running = server._running()
        assert running is not None
        endpoint = folder / "endpoint.json"
        endpoint.write_text(endpoint.read_text().replace(str(running.pid), "null"))
        assert running == EmbeddedRedis(folder)._running()


def test_settings_of_the_caller_win(folder: Path) -> None:
    with (
        EmbeddedRedis(folder, settings={"maxmemory": "64mb"}) as server,
        client_of(server) as client,
    ):
        assert {"maxmemory": str(64 * 1024 * 1024)} == client.config_get("maxmemory")


def test_a_setting_the_server_does_not_know_is_its_reason_not_to_start(folder: Path) -> None:
    with pytest.raises(EmbeddedServerError, match=r"(?i)bad directive"):
        EmbeddedRedis(folder, settings={"no-such-setting": "1"}).start()
