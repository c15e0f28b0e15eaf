"""Servers that cannot be reached: bounded waits, the circuit, and pools after a fork."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from rootstream_db.database import CircuitState, Database
from rootstream_db.errors import (
    CircuitOpenError,
    DatabaseUnavailableError,
    StorageError,
)
from tests.fixtures.items import pid, terminate
from tests.fixtures.proxy import Proxy


class TestUnreachable:
    @pytest.fixture
    def silent_port(self):
        """A port that takes connections and never says a word."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            yield listener.getsockname()[1]

    def test_a_server_that_never_answers_is_given_up_in_time(self, make, silent_port: int):
        url = SecretStr(f"postgresql://postgres:s3cret@127.0.0.1:{silent_port}/x")
        started = time.monotonic()
        with pytest.raises(DatabaseUnavailableError, match="cannot be reached") as caught:
            make(url=url, connect_timeout=1).ping()
        # psycopg waits two seconds at least; without a limit this would never end.
        assert time.monotonic() - started < 15
        assert "s3cret" not in str(caught.value)

    def test_the_same_holds_for_a_direct_connection(self, make, silent_port: int):
        url = SecretStr(f"postgresql://postgres@127.0.0.1:{silent_port}/x")
        with pytest.raises(DatabaseUnavailableError), make(url=url, connect_timeout=1).direct():
            pass

    def test_of_several_hosts_the_next_one_is_tried(self, make, proxy: Proxy, plain_url: str):
        name = plain_url.partition("@/")[2].partition("?")[0]
        dead = unused_port()
        url = f"postgresql://postgres@127.0.0.1:{dead},127.0.0.1:{proxy.port}/{name}"
        assert not make(url=SecretStr(url)).ping().read_only


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class TestCircuit:
    def open_circuit(self, db: Database, failures: int) -> None:
        for _ in range(failures):
            with pytest.raises(DatabaseUnavailableError) as caught:
                db.ping()
            assert not isinstance(caught.value, CircuitOpenError)

    def test_repeated_failures_open_it_and_calls_fail_at_once(self, make):
        db = make(url=dead_url(), circuit_failures=3, circuit_reset=60)
        self.open_circuit(db, 3)
        assert CircuitState.OPEN is db.circuit.state
        for unit in (db.transaction, db.read, db.independent):
            with pytest.raises(CircuitOpenError) as caught, unit():
                pass
            assert 0 < caught.value.retry_after <= 60

    def test_run_does_not_wait_for_an_open_circuit(self, make):
        db = make(url=dead_url(), circuit_failures=1, circuit_reset=60)
        self.open_circuit(db, 1)
        with pytest.raises(CircuitOpenError):
            db.run(pid)

    def test_it_closes_again_when_the_server_is_back(self, through, proxy: Proxy, until):
        db = through(circuit_failures=2, circuit_reset=0.05)
        refuse = [True]
        proxy.cut_before = lambda data: bool(refuse)
        self.open_circuit(db, 2)
        refuse.clear()

        def answers() -> bool:
            try:
                db.ping()
            except DatabaseUnavailableError:
                return False
            return True

        until(answers)
        assert "closed" == db.circuit.state.value

    def test_a_probe_uses_its_connection_before_it_believes(self, through, proxy: Proxy, until):
        db = through(circuit_failures=1, circuit_reset=0.05)
        db.ping()
        proxy.cut_before = lambda data: b"pg_backend_pid" in data or b"SELECT 1" in data
        with pytest.raises(DatabaseUnavailableError), db.transaction() as work:
            pid(work)
        until(lambda: not refused(db))
        with pytest.raises(DatabaseUnavailableError), db.transaction():
            pytest.fail("the probe was believed")
        assert CircuitState.OPEN is db.circuit.state

    def test_a_wrong_statement_is_no_outage(self, make):
        db = make(circuit_failures=1)
        with pytest.raises(StorageError), db.transaction() as work:
            work.session.execute(text("SELECT 1 / 0"))
        assert CircuitState.CLOSED is db.circuit.state

    def test_an_error_is_counted_once_however_many_blocks_it_leaves(self, db, plain_url: str):
        with (
            pytest.raises(DatabaseUnavailableError),
            db.transaction(),
            db.independent() as work,
            work.savepoint(),
        ):
            terminate(plain_url, pid(work))
            pid(work)
        assert 1 == db.circuit._failures


def refused(db: Database) -> bool:
    try:
        db.circuit.check()
    except CircuitOpenError:
        return True
    return False


def dead_url() -> SecretStr:
    return SecretStr(f"postgresql://postgres@127.0.0.1:{unused_port()}/x")


FORK = """
import os, sys, warnings
from pydantic import SecretStr
from sqlalchemy import text
from rootstream_db.database import Database
from rootstream_db.settings import DatabaseSettings
warnings.simplefilter("error", ResourceWarning)
pid = lambda work: work.session.execute(text("SELECT pg_backend_pid()")).scalar_one()
with Database(DatabaseSettings(url=SecretStr(os.environ["PLAIN_URL"]), pool_size=1)) as db:
    parent = db.run(pid)
    child = os.fork()
    if child == 0:
        mine = db.run(pid)
        os._exit(0 if mine != parent else 3)
    _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status) or (0 if db.run(pid) == parent else 4))
"""


def test_a_forked_child_leaves_its_parents_connections_alone(plain_url: str):
    done = subprocess.run(
        [sys.executable, "-c", FORK],
        env={**os.environ, "PLAIN_URL": plain_url},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (0, "") == (done.returncode, done.stderr)
