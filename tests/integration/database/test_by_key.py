"""A row loaded by key, past the ORM's query machinery, is the one that the ORM loads."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest
from sqlalchemy import inspect
from sqlalchemy.orm import Session

from rootstream_db.database import Database
from rootstream_db.errors import DatabaseUnavailableError, StorageError, ValidationError
from rootstream_db.models import Base, LoginThrottle, Stream, StreamLive, StreamTotals, User
from rootstream_db.models.streams import StreamKey, Visibility
from rootstream_db.repositories import by_key
from tests.factories import make_stream, make_user

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def rows(committed_database: Database) -> list[Base]:
    """A stored row of each kind of key and column."""
    with committed_database.transaction() as work:
        user = make_user(work, display_name="Ünï", verified_at=NOW)
        stream = make_stream(
            work, user, visibility=Visibility.UNLISTED, metadata_={"a": [1, None, {"b": "ç"}]}
        )
        key = work.stream_keys.add(
            StreamKey(stream_id=stream.id, key_hash=hashlib.sha256(b"x").digest(), prefix="live_")
        )
        live, totals = work.stream_live.get_one(stream.id), work.stream_totals.get_one(stream.id)
        live.fps = 59.94
        throttle = LoginThrottle(
            login_hash=hashlib.sha256(b"y").digest(), failures=2, window_started_at=NOW
        )
        work.session.add(throttle)
    return [user, stream, key, live, totals, throttle]


def of_orm(database: Database, model: type[Base], key: object) -> Base | None:
    with Session(database.engine) as session:
        return session.get(model, key)


def test_values_and_state_are_those_of_the_orm(committed_database: Database, rows: list[Base]):
    for row in rows:
        model, key = type(row), row.__mapper__.primary_key_from_instance(row)[0]
        expected = of_orm(committed_database, model, key)
        with committed_database.read() as work:
            found = by_key.load(work.session, model, key)
            assert found in work.session
            assert not work.session.dirty
        assert expected is not None
        assert found is not None
        names = [attribute.key for attribute in inspect(model).column_attrs]
        values = [(name, type(value := getattr(found, name)), value) for name in names]
        assert [(name, type(v := getattr(expected, name)), v) for name in names] == values
        assert inspect(expected).key == inspect(found).key
        assert inspect(found).detached
        assert not inspect(found).modified


def test_all_kinds_of_columns_took_part(rows: list[Base]):
    assert [User, Stream, StreamKey, StreamLive, StreamTotals, LoginThrottle] == [
        type(row) for row in rows
    ]


def test_a_missing_row_is_none(committed_database: Database):
    with committed_database.read() as work:
        assert work.users.get(2**40) is None


def test_the_same_key_is_the_same_object(committed_database: Database, rows: list[Base]):
    user = rows[0]
    assert isinstance(user, User)
    with committed_database.transaction() as work:
        found = work.users.get_one(user.id)
        assert found is work.users.get_one(user.id)
        assert found is work.users.get_by_username(user.username)


def test_a_change_is_written(committed_database: Database, rows: list[Base]):
    user = rows[0]
    assert isinstance(user, User)
    with committed_database.transaction() as work:
        work.users.get_one(user.id).display_name = "Changed"
    changed = of_orm(committed_database, User, user.id)
    assert isinstance(changed, User)
    assert "Changed" == changed.display_name
    assert changed.updated_at > user.updated_at


def test_what_is_pending_is_written_before_the_look(database: Database):
    with database.transaction() as work:
        user = make_user(work)
        work.session.expunge(user)
        pending = User(username="pending", email="pending@example.com", password_hash="none")
        work.session.add(pending)
        assert work.users.get(user.id) is not None
        assert inspect(pending).persistent


def test_a_change_in_a_reading_unit_is_refused(committed_database: Database, rows: list[Base]):
    user = rows[0]
    assert isinstance(user, User)
    with pytest.raises(StorageError, match="read-only"), committed_database.read() as work:
        work.users.get_one(user.id).display_name = "Lost"


def test_a_row_forgotten_by_a_savepoint_is_loaded_again(database: Database):
    with database.transaction() as work:
        user = make_user(work, display_name="before")
        work.session.expunge_all()
        found = work.users.get_one(user.id)
        with pytest.raises(ZeroDivisionError), work.savepoint():
            found.display_name = "inside"
            work.session.flush()
            raise ZeroDivisionError
        assert "before" == work.users.get_one(user.id).display_name


@pytest.mark.parametrize("unit", ["read", "transaction"])
def test_a_key_that_the_column_cannot_hold_is_our_error(database: Database, unit: str):
    with pytest.raises(ValidationError), getattr(database, unit)() as work:
        work.users.get(2**70)


def test_such_a_key_is_our_error_in_a_savepoint_too(database: Database):
    with database.transaction() as work:
        with pytest.raises(ValidationError), work.savepoint():
            work.users.get(2**70)
        assert work.users.get(1) is None


def test_one_lost_connection_condemns_the_whole_pool(
    committed_database: Database, rows: list[Base]
):
    user = rows[0]
    assert isinstance(user, User)
    engine = committed_database.engine
    with engine.connect() as one, engine.connect() as two:
        backends = [
            connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            for connection in (one, two)
        ]
    with committed_database.direct() as connection:
        for backend in backends:
            connection.execute("SELECT pg_terminate_backend(%s, 5000)", [backend])
    with pytest.raises(DatabaseUnavailableError), committed_database.read() as work:
        work.users.get(user.id)
    with committed_database.read() as work:
        assert work.users.get(user.id) is not None
