"""Lost connections: what is repeated, what is not, and how soon the pool is well again."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from rootstream_db.database import CircuitState, Database, engine
from rootstream_db.errors import (
    CircuitOpenError,
    DatabaseUnavailableError,
    ReadOnlyDatabaseError,
    StorageError,
    TransientStorageError,
)
from rootstream_db.unit_of_work import UnitOfWork
from tests.fixtures.proxy import Proxy


def put(work: UnitOfWork, number: int) -> None:
    work.session.execute(
        text("INSERT INTO item (id, name) VALUES (:id, :name)"),
        {"id": number, "name": f"n{number}"},
    )


def count(db: Database) -> int:
    with db.read() as work:
        return int(work.session.execute(text("SELECT count(*) FROM item")).scalar_one())


def pid(work: UnitOfWork) -> int:
    return int(work.session.execute(text("SELECT pg_backend_pid()")).scalar_one())


def terminate(url: str, *pids: int) -> None:
    with psycopg.connect(url, autocommit=True) as other:
        for number in pids:
            other.execute("SELECT pg_terminate_backend(%s, 10000)", [number])


@pytest.fixture
def through(make: Callable[..., Database], plain_url: str, proxy: Proxy) -> Callable[..., Database]:
    """A function that opens databases whose connections go through the proxy."""
    name = plain_url.partition("@/")[2].partition("?")[0]

    def open_database(**over: Any) -> Database:
        return make(url=SecretStr(f"postgresql://postgres@127.0.0.1:{proxy.port}/{name}"), **over)

    return open_database


class TestBrokenConnections:
    def test_a_connection_lost_inside_the_unit_is_translated(self, db: Database, plain_url: str):
        with pytest.raises(DatabaseUnavailableError) as caught, db.transaction() as work:
            put(work, 1)
            terminate(plain_url, pid(work))
            put(work, 2)
        assert caught.value.retryable
        assert "commit_outcome" not in caught.value.context
        assert 0 == count(db)

    def test_run_repeats_the_whole_unit(self, db: Database, plain_url: str):
        runs: list[int] = []

        def unit(work: UnitOfWork) -> str:
            runs.append(pid(work))
            put(work, 1)
            if len(runs) == 1:
                terminate(plain_url, runs[0])
            put(work, 2)
            return "done"

        assert "done" == db.run(unit)
        assert 2 == len(runs)
        assert 2 == count(db)

    def test_the_first_loss_renews_the_whole_pool(self, make: Callable[..., Database], plain_url):
        db = make(pool_size=3)
        with db.transaction() as a, db.independent():
            pids = [pid(a)]
        pids += warm(db, 3)
        terminate(plain_url, *pids)
        failures = 0
        for _ in range(6):
            try:
                count(db)
            except DatabaseUnavailableError:
                failures += 1
        assert 1 == failures

    def test_a_connection_that_rested_is_tested_before_its_use(
        self, db: Database, plain_url: str, monkeypatch: pytest.MonkeyPatch
    ):
        terminate(plain_url, *warm(db, 3))
        monkeypatch.setattr(engine, "_PING_AFTER_IDLE", 0.0)
        assert 0 == count(db)
        with db.transaction() as work:
            put(work, 1)
        assert 1 == count(db)

    def test_a_test_leaves_the_connection_as_it_was(self, db: Database, monkeypatch):
        warm(db, 1)
        monkeypatch.setattr(engine, "_PING_AFTER_IDLE", 0.0)
        with pytest.raises(ZeroDivisionError), db.transaction() as work:
            put(work, 1)
            raise ZeroDivisionError
        assert 0 == count(db)

    def test_losing_the_connection_never_hides_the_callers_error(self, db: Database, plain_url):
        with pytest.raises(ZeroDivisionError), db.transaction() as work:
            terminate(plain_url, pid(work))
            raise ZeroDivisionError

    def test_a_swallowed_loss_never_looks_like_a_commit(self, db: Database, plain_url: str):
        with pytest.raises(DatabaseUnavailableError, match="lost inside"), db.transaction() as work:
            put(work, 1)
            terminate(plain_url, pid(work))
            with pytest.raises(Exception, match="terminating connection"):
                put(work, 2)
        assert 0 == count(db)

    def test_a_loss_on_the_wire_is_seen_without_a_state(self, through, proxy: Proxy):
        db = through()
        with pytest.raises(DatabaseUnavailableError, match="cannot be reached"), db.read() as work:
            proxy.cut_all()
            pid(work)
        assert db.run(pid) > 0

    def test_a_dead_raw_connection_inside_the_unit_is_noticed(self, db: Database):
        with pytest.raises(DatabaseUnavailableError, match="lost inside"), db.transaction() as work:
            driver = work.session.connection().connection.driver_connection
            assert driver is not None
            driver.close()


def warm(db: Database, connections: int) -> list[int]:
    """Open that many connections of the main pool at once and return their process ids."""
    found: list[int] = []
    together = threading.Barrier(connections)

    def use() -> None:
        with db.transaction() as work:
            found.append(pid(work))
            together.wait(10)

    threads = [threading.Thread(target=use) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert connections == len(set(found))
    return found


class TestUnknownCommit:
    """The connection ends between COMMIT and its answer: the caller cannot know."""

    @pytest.fixture(params=[True, False], ids=["it happened", "it did not"])
    def happened(self, request: pytest.FixtureRequest, proxy: Proxy) -> bool:
        armed = [True]

        def at_commit(data: bytes) -> bool:
            if b"COMMIT" in data and armed:
                armed.clear()
                return True
            return False

        setattr(proxy, "cut_after" if request.param else "cut_before", at_commit)
        return bool(request.param)

    def test_it_is_said_and_not_repeated(self, through, db: Database, until, *, happened: bool):
        runs: list[int] = []
        after: list[str] = []

        def unit(work: UnitOfWork) -> None:
            runs.append(1)
            put(work, 1)
            work.after_commit(lambda: after.append("ran"))

        with pytest.raises(DatabaseUnavailableError, match="may or may not") as caught:
            through().run(unit)
        assert "unknown" == caught.value.context["commit_outcome"]
        assert [1] == runs
        assert [] == after
        until(lambda: count(db) == int(happened))

    def test_an_idempotent_unit_is_repeated(self, through, db: Database, *, happened: bool):
        upsert = text("INSERT INTO item (id, name) VALUES (1, 'a') ON CONFLICT (id) DO NOTHING")
        inserted: list[int] = []

        def unit(work: UnitOfWork) -> None:
            inserted.append(work.session.connection().execute(upsert).rowcount)

        through().run(unit, idempotent=True)
        assert 2 == len(inserted)
        assert 1 == count(db)

    def test_a_read_only_unit_has_no_outcome_to_wonder_about(self, through, *, happened: bool):
        assert through().run(pid, read_only=True) > 0

    def test_a_backend_killed_during_the_commit_is_unknown_too(self, db: Database, plain_url: str):
        with psycopg.connect(plain_url, autocommit=True) as other:
            other.execute(SUICIDE)
        try:
            with pytest.raises(DatabaseUnavailableError) as caught:
                db.run(lambda work: put(work, 1))
        finally:
            with psycopg.connect(plain_url, autocommit=True) as other:
                other.execute("DROP FUNCTION suicide CASCADE")
        assert "unknown" == caught.value.context["commit_outcome"]
        assert 0 == count(db)


SUICIDE = """
CREATE FUNCTION suicide() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER suicide AFTER INSERT ON item DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION suicide();
"""


class TestRepeats:
    def test_a_serialization_failure_is_repeated_until_it_works(self, db: Database):
        with db.transaction() as work:
            put(work, 1)
        together = threading.Barrier(2)
        runs: list[int] = []

        def add_one(work: UnitOfWork) -> None:
            runs.append(1)
            work.session.execute(text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))
            amount = work.session.execute(text("SELECT amount FROM item")).scalar_one()
            if len(runs) <= 2:
                together.wait(10)
            work.session.execute(text("UPDATE item SET amount = :n"), {"n": amount + 1})

        threads = [threading.Thread(target=db.run, args=(add_one,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        with db.read() as work:
            assert 2 == work.session.execute(text("SELECT amount FROM item")).scalar_one()
        assert 3 == len(runs)

    def test_a_deadlock_is_repeated(self, db: Database):
        with db.transaction() as work:
            put(work, 1)
            put(work, 2)
        together = threading.Barrier(2)
        runs: list[int] = []
        lock = text("UPDATE item SET amount = amount + 1 WHERE id = :id")

        def both(work: UnitOfWork, order: tuple[int, int]) -> None:
            runs.append(1)
            work.session.execute(lock, {"id": order[0]})
            if len(runs) <= 2:
                together.wait(10)
            work.session.execute(lock, {"id": order[1]})

        orders = [(1, 2), (2, 1)]
        threads = [
            threading.Thread(target=lambda order=order: db.run(lambda work: both(work, order)))
            for order in orders
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        with db.read() as work:
            assert [2, 2] == list(work.session.execute(text("SELECT amount FROM item")).scalars())
        assert 3 == len(runs)

    def test_attempts_can_be_limited(self, make: Callable[..., Database]):
        runs: list[int] = []

        def fail(work: UnitOfWork) -> None:
            runs.append(1)
            raise TransientStorageError("again")

        with pytest.raises(TransientStorageError):
            make(run_attempts=2).run(fail)
        with pytest.raises(TransientStorageError):
            make(run_attempts=2).run(fail, attempts=1)
        assert 3 == len(runs)

    def test_run_gives_the_value_and_takes_read_only(self, db: Database):
        show = text("SHOW transaction_read_only")
        assert "on" == db.run(lambda work: work.session.execute(show).scalar_one(), read_only=True)
        assert "off" == db.run(lambda work: work.session.execute(show).scalar_one())


class TestDemotedPrimary:
    """A primary that became a standby and lives on answers, and refuses every write."""

    def demote(self, db: Database, connections: int) -> None:
        """Make every pooled connection one to a server that refuses writes."""
        together = threading.Barrier(connections)

        def use() -> None:
            with db.read() as work:
                work.session.execute(text("SET default_transaction_read_only = on"))
                together.wait(10)

        threads = [threading.Thread(target=use) for _ in range(connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)

    def test_one_refused_write_renews_the_pool(self, make: Callable[..., Database]):
        db = make(pool_size=3)
        self.demote(db, 3)
        with pytest.raises(ReadOnlyDatabaseError), db.transaction() as work:
            put(work, 1)
        for number in (1, 2, 3):
            with db.transaction() as work:
                put(work, number)
        assert 3 == count(db)

    def test_run_moves_on_by_itself(self, make: Callable[..., Database]):
        db = make(pool_size=3)
        self.demote(db, 3)
        db.run(lambda work: put(work, 1))
        assert 1 == count(db)
        assert CircuitState.CLOSED is db.circuit.state


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
