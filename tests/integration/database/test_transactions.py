"""Leaving the block commits, an exception rolls back; actions, savepoints and reads around it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from decimal import Decimal

import pytest
from psycopg.types.json import Jsonb
from pydantic import SecretStr
from sqlalchemy import Integer, String, insert, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from rootstream_db.database import Database
from rootstream_db.errors import (
    ConfigurationError,
    ConflictError,
    StorageError,
    StorageTimeoutError,
    ValidationError,
)
from rootstream_db.settings import DatabaseSettings
from rootstream_db.unit_of_work import UnitOfWork


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(String(10))
    amount: Mapped[int] = mapped_column(default=0)


def put(work: UnitOfWork, number: int, name: str | None = None) -> None:
    work.session.execute(
        text("INSERT INTO item (id, name) VALUES (:id, :name)"),
        {"id": number, "name": name or f"n{number}"},
    )


def count(db: Database) -> int:
    with db.read() as work:
        return int(work.session.execute(text("SELECT count(*) FROM item")).scalar_one())


class TestCommitAndRollback:
    def test_leaving_the_block_commits(self, db: Database):
        with db.transaction() as work:
            put(work, 1)
        assert 1 == count(db)

    def test_an_exception_undoes_everything_and_goes_on(self, db: Database):
        with pytest.raises(ZeroDivisionError), db.transaction() as work:
            put(work, 1)
            raise ZeroDivisionError
        assert 0 == count(db)

    def test_pending_rows_are_written_at_the_end(self, db: Database):
        with db.transaction() as work:
            work.session.add(Item(id=1, name="a"))
        assert 1 == count(db)

    def test_rows_live_on_after_the_block(self, db: Database):
        with db.transaction() as work:
            item = Item(id=1, name="a")
            work.session.add(item)
        assert ("a", 0) == (item.name, item.amount)

    def test_an_error_found_at_commit_is_translated_and_nothing_is_stored(self, db: Database):
        statement = text("INSERT INTO item (id, name, late) VALUES (:id, :name, 7)")
        with pytest.raises(ConflictError) as caught, db.transaction() as work:
            for number in (1, 2):
                work.session.execute(statement, {"id": number, "name": f"n{number}"})
        assert "uq_item_late" == caught.value.constraint
        assert "commit_outcome" not in caught.value.context
        assert 0 == count(db)

    def test_a_swallowed_error_never_looks_like_a_commit(self, db: Database):
        after: list[str] = []
        with pytest.raises(StorageError, match="nothing was stored"), db.transaction() as work:
            put(work, 1)
            work.after_commit(lambda: after.append("ran"))
            with pytest.raises(Exception, match="does_not_exist"):
                work.session.execute(text("SELECT does_not_exist"))
        assert 0 == count(db)
        assert [] == after

    def test_going_on_after_an_error_points_to_savepoints(self, db: Database):
        with pytest.raises(StorageError, match=r"work\.savepoint\(\)"), db.transaction() as work:
            with pytest.raises(Exception, match="does_not_exist"):
                work.session.execute(text("SELECT does_not_exist"))
            put(work, 1)

    def test_going_on_after_a_failed_flush_points_to_savepoints(self, db: Database):
        with pytest.raises(StorageError, match=r"work\.savepoint\(\)"), db.transaction() as work:
            work.session.add(Item(id=1, name="x" * 11))
            with pytest.raises(Exception, match="too long"):
                work.session.flush()
            put(work, 1)

    def test_the_statement_limit_holds_in_transactions_and_reads(
        self, make: Callable[..., Database]
    ):
        db = make(statement_timeout=0.05)
        for unit in (db.transaction, db.read, db.independent):
            with pytest.raises(StorageTimeoutError, match="time limit"), unit() as work:
                work.session.execute(text("SELECT pg_sleep(5)"))

    def test_the_lock_limit_holds(self, make: Callable[..., Database]):
        db = make(lock_timeout=0.05)
        with db.transaction() as holder:
            put(holder, 1)
            with pytest.raises(StorageTimeoutError, match="lock"), db.transaction() as work:
                put(work, 1)

    def test_json_goes_in_and_out(self, db: Database):
        data = {"text": "ü", "list": [1, 2.5, None], "deep": {"a": True}}
        with db.transaction() as work:
            put(work, 1)
            work.session.execute(
                text("UPDATE item SET data = CAST(:data AS jsonb)"), {"data": '{"a": "ü"}'}
            )
            connection = work.session.connection().connection.driver_connection
            assert connection is not None
            connection.execute("UPDATE item SET data = %s", [Jsonb(data)])
            assert data == work.session.execute(text("SELECT data FROM item")).scalar_one()

    def test_a_database_without_a_url_names_both_ways(self):
        with pytest.raises(ConfigurationError, match="ROOTSTREAM_DATABASE_URL"):
            Database(DatabaseSettings())

    def test_a_closed_database_opens_no_unit(self, make: Callable[..., Database]):
        db = make()
        with db:
            assert 0 == count(db)
        with pytest.raises(StorageError, match="closed"):
            count(db)


class TestNow:
    def test_a_unit_has_one_instant_and_the_next_one_another(self, settings: DatabaseSettings):
        ticks = iter(range(100))
        with Database(settings, clock=lambda: next(ticks)) as db:  # type: ignore[arg-type, return-value]
            with db.transaction() as first:
                assert first.now == first.now
            with db.read() as second:
                assert first.now != second.now


class TestActions:
    def test_after_commit_actions_run_in_order_once_the_data_is_there(self, db: Database):
        seen: list[object] = []
        with db.transaction() as work:
            put(work, 1)
            work.after_commit(lambda: seen.append(count(db)))
            work.after_commit(lambda: seen.append("second"))
            assert [] == seen
        assert [1, "second"] == seen

    def test_after_commit_actions_hold_no_connection(self, make: Callable[..., Database]):
        db = make(pool_size=1)
        in_use: list[int] = []
        with db.transaction() as work:
            work.after_commit(lambda: in_use.append(db.pool_status().in_use))
        assert [0] == in_use

    def test_a_rollback_drops_them(self, db: Database):
        seen: list[str] = []
        with pytest.raises(ZeroDivisionError), db.transaction() as work:
            work.after_commit(lambda: seen.append("ran"))
            raise ZeroDivisionError
        assert [] == seen

    def test_a_failing_one_is_logged_and_counted_and_the_others_run(
        self, db: Database, caplog: pytest.LogCaptureFixture
    ):
        seen: list[str] = []

        def fail() -> None:
            raise ConnectionError("redis is gone")

        with caplog.at_level(logging.ERROR), db.transaction() as work:
            put(work, 1)
            work.after_commit(fail, name="publish")
            work.after_commit(fail)
            work.after_commit(lambda: seen.append("ran"))
        assert ["ran"] == seen
        assert 2 == db.after_commit_failures
        assert "after-commit action publish failed" in caplog.text
        assert "fail" in caplog.text
        assert 1 == count(db)

    def test_before_commit_actions_run_last_in_order_inside_the_transaction(self, db: Database):
        seen: list[str] = []
        with db.transaction() as work:
            work.before_commit(lambda: seen.append("first"))
            work.before_commit(lambda: put(work, 1))
            work.before_commit(lambda: seen.append("second"))
            seen.append("block")
        assert ["block", "first", "second"] == seen
        assert 1 == count(db)

    def test_a_before_commit_action_runs_once_for_each_key(self, db: Database):
        seen: list[str] = []

        def flush() -> None:
            seen.append("flush")

        with db.transaction() as work:
            for _ in range(3):
                work.before_commit(flush)
                work.before_commit(lambda: seen.append("keyed"), key="events")
        assert ["flush", "keyed"] == seen

    def test_a_before_commit_action_may_add_another(self, db: Database):
        seen: list[str] = []
        with db.transaction() as work:
            work.before_commit(lambda: work.before_commit(lambda: seen.append("b")))
            work.before_commit(lambda: seen.append("a"))
        assert ["a", "b"] == seen

    def test_a_failing_before_commit_action_undoes_the_unit(self, db: Database):
        after: list[str] = []
        with pytest.raises(ZeroDivisionError), db.transaction() as work:
            put(work, 1)
            work.after_commit(lambda: after.append("ran"))
            work.before_commit(lambda: 1 // 0)
        assert 0 == count(db)
        assert [] == after


class TestSavepoints:
    def test_only_the_savepoint_is_undone_and_its_error_translated(self, db: Database):
        with db.transaction() as work:
            put(work, 1, "a")
            with pytest.raises(ConflictError) as caught, work.savepoint():
                put(work, 2, "b")
                put(work, 3, "a")
            put(work, 4, "d")
        assert "uq_item_name" == caught.value.constraint
        assert 2 == count(db)

    def test_an_error_at_the_savepoints_flush_is_translated(self, db: Database):
        with db.transaction() as work, pytest.raises(ValidationError), work.savepoint():
            work.session.add(Item(id=1, name="x" * 11))
        assert 0 == count(db)

    def test_other_errors_leave_it_unchanged(self, db: Database):
        with db.transaction() as work, pytest.raises(ZeroDivisionError), work.savepoint():
            put(work, 1)
            raise ZeroDivisionError
        assert 0 == count(db)

    def test_actions_and_pending_entries_of_an_undone_savepoint_are_dropped(self, db: Database):
        seen: list[str] = []
        with db.transaction() as work:
            work.after_commit(lambda: seen.append("kept after"))
            work.before_commit(lambda: seen.append("kept before"))
            work.pending("events").append("kept")
            with pytest.raises(ZeroDivisionError), work.savepoint():
                work.after_commit(lambda: seen.append("dropped after"))
                work.before_commit(lambda: seen.append("dropped before"))
                work.pending("events").append("dropped")
                work.pending("other").append("dropped")
                raise ZeroDivisionError
            assert ["kept"] == work.pending("events")
            assert [] == work.pending("other")
        assert ["kept before", "kept after"] == seen

    def test_actions_of_a_released_savepoint_are_kept(self, db: Database):
        seen: list[str] = []
        with db.transaction() as work, work.savepoint():
            work.after_commit(lambda: seen.append("ran"))
        assert ["ran"] == seen


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
