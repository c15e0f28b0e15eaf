"""Leaving the block commits, an exception rolls back; actions, savepoints and reads around it."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from psycopg.types.json import Jsonb
from sqlalchemy import text

from rootstream_db.database import Database
from rootstream_db.errors import (
    ConfigurationError,
    ConflictError,
    StorageError,
    StorageTimeoutError,
    ValidationError,
)
from rootstream_db.settings import DatabaseSettings
from tests.fixtures.items import Item, count, put


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
        with Database(settings, clock=lambda: next(ticks)) as db:  # type: ignore[arg-type, return-value]  # ticks
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

    def test_an_error_of_the_bare_driver_is_translated_too(self, db: Database):
        with db.transaction() as work:
            put(work, 1, "a")
            driver = work.session.connection().connection.driver_connection
            assert driver is not None
            with pytest.raises(ConflictError), work.savepoint():
                driver.execute("INSERT INTO item (id, name) VALUES (2, 'a')")
            put(work, 3, "c")
        assert 2 == count(db)

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
