"""13: who has a dump of the database, of Redis and of the logs has none of the issued secrets."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from rootstream_db.security.tokens import find_tokens
from tests.fixtures.secrets import BETTER, PASSWORD, Life, live


@pytest.fixture
def life(rootstream, clock, caplog) -> Life:
    lived = live(rootstream, clock)
    lived.said.append(caplog.text)
    return lived


def leaked(life: Life, text: str) -> set[str]:
    return {name for name, form in life.written_forms() if form in text}


def dump_of_the_database(url: str, program: Path) -> str:
    address = make_url(url)
    names: dict[str, object] = {"PGDATABASE": address.database, "PGUSER": address.username}
    names |= {"PGHOST": address.query.get("host") or address.host, "PGPORT": address.port}
    names |= {"PGPASSWORD": address.password}
    surroundings = {name: str(value) for name, value in names.items() if value is not None}
    port = address.query.get("port")
    done = subprocess.run(
        [program, "--inserts"],
        env={**os.environ, **surroundings, **({"PGPORT": str(port)} if port else {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


def dump_of_redis(client: Any) -> str:
    readers = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
    }
    found = [(key, readers[client.type(key)](key)) for key in client.scan_iter()]
    raw = b"\n".join(part for item in found for part in _parts(item))
    return f"{found!r}\n{raw.decode('latin-1')}"


def _parts(value: Any) -> list[bytes]:
    if isinstance(value, bytes):
        return [value]
    if isinstance(value, dict):
        value = [*value, *value.values()]
    return [part for item in value for part in _parts(item)] if hasattr(value, "__iter__") else []


def test_13_a_dump_of_the_database_holds_no_secret(life, clean_database_url, servers):
    program = servers.postgres.bindir / "pg_dump"
    if not program.exists():
        pytest.skip("this PostgreSQL comes without pg_dump")
    dump = dump_of_the_database(clean_database_url, program)
    assert {"alice", "Speedrun", "Laptop"} <= {word for word in ("alice", "Speedrun", "Laptop")
                                               if word in dump}  # fmt: skip
    assert set() == leaked(life, dump)
    assert [] == list(find_tokens(dump))


def test_13_redis_holds_no_secret(life, rootstream):
    dump = dump_of_redis(rootstream.cache.client)
    assert re.search("rs:.*live:", dump)
    assert set() == leaked(life, dump)
    assert [] == list(find_tokens(dump))


def test_13_and_18_logs_errors_and_reprs_hold_no_secret(life):
    # A traceback shows source lines of the tests; what is looked for are values.
    said = "\n".join(life.said)
    assert "InvalidCredentialsError" in said
    assert set() == leaked(life, said)
    assert [] == list(find_tokens(said))


def test_13_the_search_would_find_a_secret(life):
    """The tests above can fail."""
    for secret in (PASSWORD, BETTER, life.secrets["session"]):
        assert leaked(life, f"x{secret}y")
        assert leaked(life, f"x{secret.encode().hex()}y")
    assert 25 <= len(life.secrets)
