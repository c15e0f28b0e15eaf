"""Lost connections: what is repeated, and how soon the pool is well again."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import text

from rootstream_db.database import CircuitState, Database, engine
from rootstream_db.errors import (
    DatabaseUnavailableError,
    ReadOnlyDatabaseError,
    TransientStorageError,
)
from rootstream_db.unit_of_work import UnitOfWork
from tests.fixtures.items import count, pid, put, terminate, warm
from tests.fixtures.proxy import Proxy


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
