"""Both servers of an application, started and stopped together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from rootstream_db.embedded import start_servers
from rootstream_db.errors import EmbeddedServerError
from rootstream_db.settings import EmbeddedSettings


def test_an_application_gets_both_servers_and_a_database_of_its_own(
    folder: Path, value: Callable[[str, str], Any]
) -> None:
    with start_servers(folder / "both", EmbeddedSettings(), database="mine") as servers:
        assert "mine" == value(servers.database_url, "SELECT current_database()")
        with redis.Redis.from_url(servers.redis_url) as client:
            assert client.ping()
        assert servers.database_url not in repr(servers)
    assert not servers.postgres.is_running()
    assert not servers.redis.is_running()


def test_postgresql_does_not_stay_when_redis_does_not_start(folder: Path) -> None:
    settings = EmbeddedSettings(redis_server=folder / "missing")
    with (
        pytest.raises(EmbeddedServerError, match="missing or does not run"),
        start_servers(folder / "both", settings),
    ):
        pytest.fail("there is no Redis to start")
    # The folder's teardown fails when a process is left.
