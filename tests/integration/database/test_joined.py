"""A database joined to a connection: its commits are savepoints, for tests that leave no trace."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import SecretStr
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from rootstream_db.database import Database
from rootstream_db.errors import ConflictError, StorageError
from rootstream_db.settings import DatabaseSettings


@pytest.fixture
def connection(plain_url: str, settings: DatabaseSettings) -> Iterator[Connection]:
    engine = create_engine(plain_url, poolclass=NullPool)
    with engine.connect() as connection:
        connection.begin()
        yield connection


@pytest.fixture
def joined(connection: Connection, settings: DatabaseSettings) -> Iterator[Database]:
    with Database.joined_to(connection, settings) as database:
        yield database


def put(database: Database, number: int) -> None:
    with database.transaction() as work:
        work.session.execute(
            text("INSERT INTO item (id, name) VALUES (:id, :name)"),
            {"id": number, "name": str(number)},
        )


def count(database: Database) -> int:
    with database.read() as work:
        return int(work.session.execute(text("SELECT count(*) FROM item")).scalar_one())


def test_its_commits_are_gone_after_the_rollback(joined: Database, connection: Connection, db):
    put(joined, 1)
    put(joined, 2)
    assert 2 == count(joined)
    connection.rollback()
    assert 0 == count(db)


def test_a_failed_unit_is_undone_alone(joined: Database):
    put(joined, 1)
    with pytest.raises(ConflictError):
        put(joined, 1)
    with pytest.raises(ZeroDivisionError), joined.transaction() as work:
        work.session.execute(text("DELETE FROM item"))
        raise ZeroDivisionError
    assert 1 == count(joined)


def test_a_swallowed_error_is_noticed_here_too(joined: Database):
    with (
        pytest.raises(StorageError, match="nothing was stored"),
        joined.transaction() as work,
        pytest.raises(Exception, match="division"),
    ):
        work.session.execute(text("SELECT 1 / 0"))
    put(joined, 1)
    assert 1 == count(joined)


def test_after_commit_actions_run_and_units_nest(joined: Database):
    seen: list[str] = []
    with joined.transaction(), joined.transaction() as inner, joined.independent():
        inner.after_commit(lambda: seen.append("ran"))
        assert [] == seen
    assert ["ran"] == seen


def test_runs_pings_and_the_pool_work_here_too(joined: Database):
    put(joined, 1)
    assert joined.run(lambda work: work.session.connection().in_transaction(), read_only=True)
    assert joined.ping().server_version
    assert 0 == joined.pool_status().in_use


def test_the_url_may_be_missing_from_the_settings(connection: Connection):
    with Database.joined_to(connection, DatabaseSettings()) as joined:
        put(joined, 1)
        assert connection.engine is joined.engine


def test_the_server_named_in_errors_is_the_settings_one(connection: Connection):
    url = SecretStr("postgresql://alice@db.example.com/shop")
    with Database.joined_to(connection, DatabaseSettings(url=url)) as joined:
        put(joined, 1)
        with pytest.raises(ConflictError) as caught:
            put(joined, 1)
    assert "db.example.com" == caught.value.context["host"]
