"""Looking one row up the short way: the same answers, and the same errors, as a unit of work."""

from __future__ import annotations

import pytest

from rootstream_db.database import Database
from rootstream_db.errors import StorageError, ValidationError


def test_a_row_comes_as_the_driver_makes_it(committed_database: Database):
    assert (7, "seven") == committed_database.fetch_one("SELECT %s::int, %s", (7, "seven"))
    assert committed_database.fetch_one("SELECT 1 WHERE false", ()) is None


def test_it_sees_what_was_committed_a_moment_ago(committed_database: Database):
    statement = "SELECT count(*) FROM login_throttle"
    before = committed_database.fetch_one(statement, ())
    with committed_database.transaction() as work:
        work.session.connection().exec_driver_sql(
            "INSERT INTO login_throttle (login_hash, window_started_at) "
            "VALUES (decode(repeat('00', 32), 'hex'), now())"
        )
        assert before == committed_database.fetch_one(statement, ())
    assert before is not None
    assert (before[0] + 1,) == committed_database.fetch_one(statement, ())


def test_a_refused_statement_is_our_error_and_costs_no_connection(committed_database: Database):
    for _ in range(2 * committed_database.settings.pool_size):
        with pytest.raises(StorageError):
            committed_database.fetch_one("SELECT 1/0", ())
    assert (1,) == committed_database.fetch_one("SELECT 1", ())
    assert 0 == committed_database.pool_status().in_use


@pytest.mark.parametrize("value", ["nul\0", "half \ud83d"])
def test_a_value_that_cannot_be_sent_is_a_validation_error(
    committed_database: Database, value: str
):
    with pytest.raises(ValidationError):
        committed_database.fetch_one("SELECT %s", (value,))


def test_a_connection_that_was_cut_is_replaced(committed_database: Database):
    committed_database.fetch_one("SELECT 1", ())
    (server,) = committed_database.fetch_one("SELECT pg_backend_pid()", ()) or (0,)
    with committed_database.direct() as other:
        other.execute("SELECT pg_terminate_backend(%s)", (server,))
    assert (1,) == committed_database.fetch_one("SELECT 1", ())


def test_inside_a_unit_it_takes_a_connection_of_the_next_pool(committed_database: Database):
    with (
        committed_database.independent(),
        pytest.raises(StorageError, match="cannot be opened inside"),
    ):
        committed_database.fetch_one("SELECT 1", ())
    with committed_database.transaction():
        assert (1,) == committed_database.fetch_one("SELECT 1", ())


def test_a_database_joined_to_a_transaction_answers_within_it(database: Database):
    with database.transaction() as work:
        work.session.connection().exec_driver_sql("CREATE TEMPORARY TABLE here (id int)")
        assert (0,) == database.fetch_one("SELECT count(*) FROM here", ())
