"""Behind PgBouncer in transaction mode: nothing is prepared, limits hold, nothing fails."""

from __future__ import annotations

import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr
from sqlalchemy import text

from rootstream_db.database import Database
from rootstream_db.embedded import EmbeddedPostgres
from rootstream_db.embedded.run_as import choose_run_as
from rootstream_db.errors import ConfigurationError, StorageTimeoutError
from rootstream_db.testing import ThrowawayServers
from rootstream_db.unit_of_work import UnitOfWork
from tests.fixtures.guarded import guarded
from tests.fixtures.scratch import scratch_folder

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")

pytestmark = [
    pytest.mark.pgbouncer,
    pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed"),
]

CONFIG = """
[databases]
* = host={host} port={port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
min_pool_size = 3
server_check_delay = 0
"""


@pytest.fixture(scope="module")
def pooler_port(servers: ThrowawayServers) -> Iterator[int]:
    """The port of a PgBouncer in front of the run's server."""
    at = conninfo_to_dict(servers.postgres.url())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    with scratch_folder() as folder:
        file = folder / "pgbouncer.ini"
        file.write_text(CONFIG.format(host=at["host"], port=at["port"], listen=port))
        # PgBouncer refuses to run as root, and the server's socket lets its own account in only.
        account = choose_run_as(None, servers.postgres.path / "data")
        command = [str(PGBOUNCER), str(file)]
        with guarded(command, log=folder / "log", account=account, ends_on=signal.SIGTERM):
            wait_for_port(port)
            yield port


def wait_for_port(port: int) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert time.monotonic() < end, "pgbouncer never listened"
            time.sleep(0.02)
        else:
            return


@pytest.fixture
def pooled(make: Callable[..., Database], plain_url: str, pooler_port: int):
    """A function that opens databases behind the pooler."""
    name = plain_url.partition("@/")[2].partition("?")[0]
    url = SecretStr(f"postgresql://postgres@127.0.0.1:{pooler_port}/{name}")

    def open_database(**over: object) -> Database:
        return make(
            **{"url": url, "direct_url": SecretStr(plain_url), "pooler": "pgbouncer", **over}
        )

    return open_database


def show(work: UnitOfWork, name: str) -> str:
    return str(work.session.execute(text(f"SHOW {name}")).scalar_one())


def test_two_thousand_transactions_on_shared_server_connections_all_succeed(
    pooled: Callable[..., Database], plain_url: str
):
    db = pooled(pool_size=8)
    statement = text("INSERT INTO item (id, name) VALUES (:id, :name)")
    errors: list[BaseException] = []

    def work_through(first: int) -> None:
        try:
            for number in range(first, first + 250):
                with db.transaction() as work:
                    work.session.execute(statement, {"id": number, "name": str(number)})
                with db.read() as work:
                    assert 1 == work.session.execute(text("SELECT 1")).scalar_one()
        except BaseException as error:  # noqa: BLE001 - the test looks at all of them
            errors.append(error)

    threads = [threading.Thread(target=work_through, args=(n * 1000,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(110)
    assert [] == errors
    with psycopg.connect(plain_url) as connection:
        assert (2000,) == connection.execute("SELECT count(*) FROM item").fetchone()


def test_nothing_is_ever_prepared(pooled: Callable[..., Database]):
    db = pooled(pool_size=1)
    for _ in range(20):
        with db.transaction() as work:
            work.session.execute(text("SELECT 1"))
            prepared = text("SELECT count(*) FROM pg_prepared_statements")
            assert 0 == work.session.execute(prepared).scalar_one()


@pytest.mark.parametrize("kind", ["transaction", "read-only", "independent"])
def test_the_limits_hold_in_every_transaction(pooled: Callable[..., Database], kind: str):
    db = pooled(statement_timeout=1.5, lock_timeout=0.7, idle_in_transaction_timeout=9)
    unit = {
        "transaction": db.transaction,
        "read-only": lambda: db.transaction(read_only=True),
        "independent": db.independent,
    }[kind]
    with unit() as work:
        assert ["1500ms", "700ms", "9s"] == [
            show(work, name)
            for name in (
                "statement_timeout",
                "lock_timeout",
                "idle_in_transaction_session_timeout",
            )
        ]


def test_a_limit_ends_a_statement_and_does_not_leak_to_the_next(pooled: Callable[..., Database]):
    db = pooled(pool_size=1, statement_timeout=0.05)
    with pytest.raises(StorageTimeoutError), db.transaction() as work:
        work.session.execute(text("SELECT pg_sleep(5)"))
    with db.read() as work:
        assert "0" == show(work, "statement_timeout")


def test_a_direct_connection_goes_past_the_pooler(pooled: Callable[..., Database]):
    with pooled().direct() as connection:
        connection.execute("SELECT pg_advisory_lock(42)")
        assert (True,) == connection.execute("SELECT pg_advisory_unlock(42)").fetchone()


def test_a_pooler_that_was_not_declared_is_named(pooled: Callable[..., Database]):
    with pytest.raises(ConfigurationError, match=r"set database\.pooler to pgbouncer") as caught:
        pooled(pooler="none").ping()
    assert "database.pooler" == caught.value.setting


def test_a_replica_behind_the_server_is_not_assumed(tcp_server: EmbeddedPostgres, make):
    # The pooler setting speaks of database.url; a direct server accepts it all the same.
    assert not make(url=SecretStr(tcp_server.url()), pooler="pgbouncer").ping().read_only
