"""URLs are read without a driver and shown without their password."""

from __future__ import annotations

import pytest

from rootstream_db.settings.urls import POSTGRES_SCHEMES, REDIS_SCHEMES, ServerUrl, parse_url


def postgres(url: str) -> ServerUrl:
    return parse_url(url, schemes=POSTGRES_SCHEMES)


def hosts(url: str) -> list[str]:
    return [str(host) for host in postgres(url).hosts]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://db/x", ["db"]),
        ("postgresql://db:5433/x", ["db:5433"]),
        ("postgresql://[::1]:5433/x", ["[::1]:5433"]),
        ("postgresql://a:1,b:2,c/x", ["a:1", "b:2", "c"]),
        ("postgresql:///x?host=a:1&host=b:2", ["a:1", "b:2"]),
        ("postgresql:///x?host=a,b&port=1,2", ["a:1", "b:2"]),
        ("postgresql:///x?host=a,b&port=7", ["a:7", "b:7"]),
        ("postgresql:///x?host=/run/postgresql", ["/run/postgresql"]),
        ("postgresql:///x", ["localhost"]),
    ],
)
def test_hosts_are_found_in_every_form(url: str, expected: list[str]):
    assert expected == hosts(url)


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("postgresql:///x", True),
        ("postgresql://localhost/x", True),
        ("postgresql://127.0.0.1:5433/x", True),
        ("postgresql:///x?host=/run/postgresql", True),
        ("postgresql://db.example.com/x", False),
        ("postgresql://localhost,db.example.com/x", False),
    ],
)
def test_a_server_is_local_when_all_its_hosts_are(url: str, *, local: bool):
    assert local == postgres(url).is_local


def test_user_and_password_are_decoded_and_hidden():
    server = postgres("postgresql://al%40ice:p%2Fw%23d@db/x?sslmode=require")
    assert ("al@ice", "p/w#d", "x") == (server.user, server.password, server.database)
    assert "postgresql://al@ice:***@db/x" == server.masked()
    assert "p/w#d" not in repr(server)


def test_a_password_in_the_query_is_hidden_too():
    server = postgres("postgresql://db/x?user=alice&password=s3cret")
    assert ("alice", "s3cret") == (server.user, server.password)
    assert "s3cret" not in server.masked() + repr(server)


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://:s3cret@cache:6380/0", "redis://:***@cache:6380/0"),
        ("rediss://cache", "rediss://cache:6379"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock"),
    ],
)
def test_redis_urls_are_read_too(url: str, masked: str):
    assert masked == parse_url(url, schemes=REDIS_SCHEMES).masked()
