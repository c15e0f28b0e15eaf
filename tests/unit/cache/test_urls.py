from __future__ import annotations

import traceback

import pytest
from pydantic import SecretStr

from rootstream_db.cache.connection import Target, connect, parse_target
from rootstream_db.errors import ConfigurationError
from rootstream_db.settings import RedisSettings


def settings(url: str | None) -> RedisSettings:
    """Go past the settings' own check: this module has to stand alone."""
    return RedisSettings().model_copy(update={"url": None if url is None else SecretStr(url)})


def target(url: str) -> Target:
    return parse_target(settings(url))


def test_a_plain_url_names_host_port_database_and_login():
    found = target("redis://alice:s%40cret@cache.example:6380/3")
    assert "cache.example:6380" == found.address
    assert ("alice", "s@cret", 3) == tuple(found.options[k] for k in ("username", "password", "db"))


def test_an_address_without_port_has_the_usual_one():
    assert "localhost:6379" == target("redis://").address


def test_a_socket_url_names_its_path():
    assert "/run/redis/s" == target("unix:///run/redis/s?db=2").address


def test_a_sentinel_url_names_nodes_service_and_database():
    found = target("redis+sentinel://u:p@a:1001,b,[::1]:1003/main/4?sentinel_password=q&ssl_x=1")
    assert (("a", 1001), ("b", 26379), ("::1", 1003)) == found.sentinels
    assert ("main", 4, "p") == (found.service, found.options["db"], found.options["password"])
    assert {"password": "q"} == found.sentinel_options
    assert "main at a:1001,b,[::1]:1003" == found.address


def test_a_sentinel_client_is_made_without_connecting():
    from redis.sentinel import SentinelConnectionPool, SentinelManagedSSLConnection

    plain = connect(settings("redis+sentinel://a:1/main"), retry=True)
    assert isinstance(plain.connection_pool, SentinelConnectionPool)
    tls = connect(settings("rediss+sentinel://a:1/main"), retry=True)
    assert SentinelManagedSSLConnection is tls.connection_pool.connection_class


def test_a_missing_url_is_an_error_that_names_both_ways():
    with pytest.raises(ConfigurationError, match=r"ROOTSTREAM_REDIS_URL.*embedded"):
        parse_target(settings(None))


@pytest.mark.parametrize(
    "url",
    [
        "http://:hunter2@host/",
        "redis://:hunter2@host:hunter2/",
        "redis://:hunter2@[bad/",
        "redis+sentinel://:hunter2@a:1",
        "redis+sentinel://:hunter2@:1/main",
        "redis://:hunter2@host/?socket_timeout=hunter2",
    ],
)
def test_a_bad_url_is_one_clear_error_without_its_password(url):
    with pytest.raises(ConfigurationError, match=r"redis\.url") as caught:
        parse_target(settings(url))
    assert "redis.url" == caught.value.setting
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_a_target_never_shows_its_password():
    assert "Target(host:6379)" == repr(target("redis://:hunter2@host"))
