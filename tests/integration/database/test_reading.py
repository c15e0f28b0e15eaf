"""Reads that refuse to write, independent units, the ping and direct connections."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from pydantic import SecretStr
from sqlalchemy import insert, text

from rootstream_db.database import Database
from rootstream_db.errors import (
    ConflictError,
    StorageError,
)
from rootstream_db.unit_of_work import UnitOfWork
from tests.fixtures.items import Item, count, put


class TestReading:
    def test_each_statement_of_a_read_sees_the_newest_data(self, db: Database):
        with db.read() as work:
            assert 0 == work.session.execute(text("SELECT count(*) FROM item")).scalar_one()
            with db.transaction() as other:
                put(other, 1)
            assert 1 == work.session.execute(text("SELECT count(*) FROM item")).scalar_one()

    @pytest.mark.parametrize("kind", ["read", "transaction"])
    @pytest.mark.parametrize("how", ["add", "change", "delete", "insert statement"])
    def test_writing_through_the_session_is_refused(self, db: Database, kind: str, how: str):
        with db.transaction() as work:
            put(work, 1)
        unit = db.read() if kind == "read" else db.transaction(read_only=True)
        with pytest.raises(StorageError, match="read-only"), unit as work:
            write(work, how)
        with db.read() as work:
            assert [(1, "n1")] == [
                (row.id, row.name) for row in work.session.query(Item).order_by(Item.id)
            ]

    def test_the_server_refuses_what_the_session_cannot_see(self, db: Database):
        with (
            pytest.raises(StorageError, match="read-only") as caught,
            db.transaction(read_only=True) as work,
        ):
            put(work, 1)
        assert not caught.value.retryable
        # A caller's mistake is no failover: the pool keeps its connections.
        assert 1 == db.pool_status().idle

    def test_a_read_only_transaction_is_one_snapshot_if_asked_for(self, db: Database):
        with db.transaction(read_only=True) as work:
            work.session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            assert 0 == work.session.execute(text("SELECT count(*) FROM item")).scalar_one()
            with db.independent() as other:
                put(other, 1)
            assert 0 == work.session.execute(text("SELECT count(*) FROM item")).scalar_one()

    def test_read_only_leaves_no_trace_on_the_connection(self, make: Callable[..., Database]):
        db = make(pool_size=1)
        with db.transaction(read_only=True) as work:
            assert "on" == work.session.execute(text("SHOW transaction_read_only")).scalar_one()
        with db.read():
            pass
        with db.transaction() as work:
            put(work, 1)
        assert 1 == count(db)

    def test_rows_that_were_read_live_on(self, db: Database):
        with db.transaction() as work:
            put(work, 1)
        with db.read() as work:
            item = work.session.get(Item, 1)
        assert item is not None
        assert "n1" == item.name


def write(work: UnitOfWork, how: str) -> None:
    item = work.session.get_one(Item, 1)
    if how == "add":
        work.session.add(Item(id=2, name="b"))
    elif how == "change":
        item.name = "changed"
    elif how == "delete":
        work.session.delete(item)
    else:
        work.session.execute(insert(Item).values(id=2, name="b"))


class TestIndependent:
    def test_it_survives_the_rollback_of_the_unit_around_it(self, db: Database):
        with pytest.raises(ZeroDivisionError), db.transaction() as outer:
            put(outer, 1)
            with db.independent() as work:
                put(work, 2)
            raise ZeroDivisionError
        assert 1 == count(db)

    def test_it_does_not_wait_for_a_saturated_pool(self, make: Callable[..., Database]):
        db = make(pool_size=1, pool_timeout=0.2)
        with db.transaction() as outer:
            put(outer, 1)
            with db.independent() as work:
                put(work, 2)
        assert 2 == count(db)

    def test_its_after_commit_actions_run_at_its_own_end(self, db: Database):
        seen: list[str] = []
        with db.transaction():
            with db.independent() as work:
                work.after_commit(lambda: seen.append("ran"))
            assert ["ran"] == seen


class TestPing:
    def test_it_tells_who_answered_and_how_fast(self, db: Database):
        result = db.ping()
        assert result.latency_seconds > 0
        assert result.server_version[:2].isdigit()
        assert not result.read_only

    def test_a_role_that_may_only_read_is_read_only(self, make, plain_url: str):
        url = SecretStr(plain_url + "&options=-c%20default_transaction_read_only%3Don")
        assert make(url=url).ping().read_only


class TestDirect:
    def test_it_is_an_autocommit_connection_without_limits_and_outside_the_pool(self, db: Database):
        with db.direct() as connection:
            assert connection.autocommit
            assert ("0", "0") == connection.execute(
                "SELECT current_setting('statement_timeout'), current_setting('lock_timeout')"
            ).fetchone()
            assert 0 == db.pool_status().in_use
        assert connection.closed

    def test_it_goes_to_the_direct_url(self, make: Callable[..., Database], plain_url: str):
        direct = SecretStr(plain_url + "&application_name=direct")
        with make(direct_url=direct).direct() as connection:
            assert ("direct",) == connection.execute("SHOW application_name").fetchone()

    def test_its_errors_are_translated_too(self, db: Database):
        with pytest.raises(ConflictError), db.direct() as connection:
            for _ in range(2):
                connection.execute("INSERT INTO item (id, name) VALUES (1, 'a')")


def test_the_engine_is_the_primarys(db: Database):
    with db.engine.connect() as connection:
        assert Decimal(1) == connection.exec_driver_sql("SELECT 1.0").scalar_one()
