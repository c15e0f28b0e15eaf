"""A database with a few plain tables, servers with passwords, TLS and a standby."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from rootstream_db.database import Database
from rootstream_db.embedded import EmbeddedPostgres
from rootstream_db.embedded.run_as import RunAs, choose_run_as
from rootstream_db.settings import DatabaseSettings
from rootstream_db.testing import ThrowawayServers
from tests.fixtures.guarded import guarded
from tests.fixtures.proxy import Proxy
from tests.fixtures.scratch import scratch_folder
from tests.fixtures.servers import WORKER

TABLES = """
CREATE TABLE item (
    id integer CONSTRAINT pk_item PRIMARY KEY,
    name varchar(10) NOT NULL CONSTRAINT uq_item_name UNIQUE,
    amount integer NOT NULL DEFAULT 0 CONSTRAINT ck_item_amount CHECK (amount >= 0),
    parent integer CONSTRAINT fk_item_parent REFERENCES item DEFERRABLE INITIALLY IMMEDIATE,
    late integer CONSTRAINT uq_item_late UNIQUE DEFERRABLE INITIALLY DEFERRED,
    data jsonb
)
"""


@pytest.fixture(scope="session")
def plain_url(servers: ThrowawayServers) -> str:
    """A database with the one table above."""
    url = servers.postgres.create_database(f"plain_{WORKER}")
    with psycopg.connect(url) as connection:
        connection.execute("DROP TABLE IF EXISTS item")
        connection.execute(TABLES)
    return url


@pytest.fixture
def settings(plain_url: str) -> DatabaseSettings:
    """Settings that lead to the emptied table."""
    with psycopg.connect(plain_url) as connection:
        connection.execute("DELETE FROM item")
    return DatabaseSettings(url=SecretStr(plain_url), pool_size=4)


@pytest.fixture
def make(settings: DatabaseSettings) -> Iterator[Callable[..., Database]]:
    """A function that opens databases with other settings; they are closed after the test."""
    made: list[Database] = []

    def open_database(**over: Any) -> Database:
        given = {name: getattr(settings, name) for name in settings.model_fields_set}
        made.append(Database(DatabaseSettings(**{**given, **over})))
        return made[-1]

    yield open_database
    for database in made:
        database.close()


@pytest.fixture
def db(make: Callable[..., Database]) -> Database:
    """A database with real commits on the one table."""
    return make()


@pytest.fixture
def proxy(plain_url: str) -> Iterator[Proxy]:
    """A proxy in front of the run's server."""
    at = conninfo_to_dict(plain_url)
    path = f"{at['host']}/.s.PGSQL.{at['port']}"
    with Proxy(socket.AF_UNIX, path) as proxy:
        yield proxy


@pytest.fixture
def through(make: Callable[..., Database], plain_url: str, proxy: Proxy) -> Callable[..., Database]:
    """A function that opens databases whose connections go through the proxy."""
    name = plain_url.partition("@/")[2].partition("?")[0]

    def open_database(**over: Any) -> Database:
        return make(url=SecretStr(f"postgresql://postgres@127.0.0.1:{proxy.port}/{name}"), **over)

    return open_database


@pytest.fixture(scope="session")
def tcp_server() -> Iterator[EmbeddedPostgres]:
    """A server of this folder's own that asks for a password."""
    with scratch_folder() as folder, EmbeddedPostgres(folder / "pg", tcp=True, durable=False) as pg:
        yield pg


@pytest.fixture(scope="session")
def standby(tcp_server: EmbeddedPostgres) -> Iterator[str]:
    """The URL of a standby that streams from ``tcp_server``."""
    with scratch_folder() as folder:
        data = folder / "data"
        account = choose_run_as(None, tcp_server.path / "data")
        copy_cluster(tcp_server, data, account)
        # A standby allows at least as many connections as its primary.
        options = ("listen_addresses=", f"unix_socket_directories={folder}", "max_connections=200")
        command = [f"{tcp_server.bindir}/postgres", "-D", str(data), "-c", "fsync=off"]
        command += [part for option in options for part in ("-c", option)]
        url = f"postgresql://postgres@/postgres?host={folder}"
        with guarded(command, log=folder / "log", account=account):
            wait_for(url)
            yield url


def copy_cluster(primary: EmbeddedPostgres, data: Path, account: RunAs) -> None:
    """Make ``data`` a standby's data folder, owned by the account that will run it."""
    command = [f"{primary.bindir}/pg_basebackup", "-D", str(data), "-R", "-c", "fast", "-N"]
    subprocess.run([*command, "-d", primary.url()], check=True, capture_output=True, timeout=60)
    for path in (data.parent, data, *data.rglob("*")):
        account.own(path)


def wait_for(url: str) -> None:
    """Poll until the server answers."""
    end = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            assert time.monotonic() < end, "the server never answered"
            time.sleep(0.02)
        else:
            return


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Poll until a condition holds."""

    def wait(condition: Callable[[], bool], *, seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "the condition never came true"
            time.sleep(0.005)

    return wait
