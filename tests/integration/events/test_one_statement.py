"""A unit that does nothing but append is one statement; any other is one transaction, as always."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import text

from rootstream_db.database import Database
from rootstream_db.errors import (
    ConflictError,
    DatabaseUnavailableError,
    ReadOnlyDatabaseError,
    StorageError,
    VersionConflictError,
)
from rootstream_db.models import User
from rootstream_db.services.event_store import NEW, EventStore, NewEvent
from rootstream_db.testing import settings_for
from rootstream_db.unit_of_work import UnitOfWork
from tests.factories import make_user
from tests.fixtures.proxy import Proxy

SAID = b"what was said"


class Recording(Proxy):
    """A proxy that remembers what clients sent, and can cut at an event."""

    def __init__(self, url: str) -> None:
        at = conninfo_to_dict(url)
        super().__init__(socket.AF_UNIX, f"{at['host']}/.s.PGSQL.{at['port']}")
        self.url = f"postgresql://{at['user']}@127.0.0.1:{self.port}/{at['dbname']}"
        self.sent = b""
        self.cut_before = self._remember

    def _remember(self, data: bytes) -> bool:
        self.sent += data
        return False


@pytest.fixture
def proxy(clean_database_url: str) -> Iterator[Recording]:
    with Recording(clean_database_url) as proxy:
        yield proxy


@pytest.fixture
def database(proxy: Recording) -> Iterator[Database]:
    settings = settings_for(proxy.url, "redis://nowhere.invalid").database
    with Database(settings.model_copy(update={"pool_size": 1})) as database:
        yield database


@pytest.fixture
def events(database: Database) -> EventStore:
    return EventStore(database)


def say(events: EventStore, work: UnitOfWork, **over: Any) -> None:
    event = NewEvent(event_type="Said", data={"text": SAID.decode()})
    events.append_many(work, "Stream", "7", [event], **over)


def said(events: EventStore) -> int:
    return sum(1 for _ in events.read_all())


def users(database: Database) -> int:
    with database.read() as work:
        return int(work.session.execute(text("SELECT count(*) FROM users")).scalar_one())


def test_a_unit_that_only_appends_needs_no_begin_and_no_commit(proxy, database, events):
    assert 0 == said(events)  # SQLAlchemy gets to know the server at its first connection
    proxy.sent = b""
    with database.transaction() as work:
        say(events, work)
        say(events, work)
    assert 1 == proxy.sent.count(b"append_events")
    assert b"BEGIN" not in proxy.sent
    assert b"COMMIT" not in proxy.sent
    assert 2 == said(events)


def test_the_next_unit_on_the_connection_is_a_transaction_again(proxy, database, events):
    with database.transaction() as work:
        say(events, work)
    with pytest.raises(ZeroDivisionError), database.transaction() as work:
        make_user(work)
        raise ZeroDivisionError
    assert 0 == users(database)
    assert b"ROLLBACK" in proxy.sent


def test_a_refused_append_leaves_nothing_and_the_next_one_works(database, events):
    with database.transaction() as work:
        say(events, work)
    with pytest.raises(VersionConflictError), database.transaction() as work:
        say(events, work, expected_version=NEW)
    with database.transaction() as work:
        say(events, work, expected_version=1)
    assert 2 == said(events)


def test_what_was_written_before_goes_with_a_refused_append(database, events):
    with database.transaction() as work:
        say(events, work)
    with pytest.raises(VersionConflictError), database.transaction() as work:
        make_user(work)
        say(events, work, expected_version=NEW)
    assert 0 == users(database)


def test_a_flushed_append_goes_with_what_fails_after_it(database, events):
    with pytest.raises(ZeroDivisionError), database.transaction() as work:
        say(events, work)
        events.flush(work)
        raise ZeroDivisionError
    assert 0 == said(events)


def test_an_append_goes_with_an_action_that_fails_after_it(database, events):
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), database.transaction() as work:
        say(events, work)
        work.before_commit(fail)
    assert 0 == said(events)


def test_an_append_goes_with_rows_that_an_action_left_to_the_last_flush(database, events):
    with database.transaction() as work:
        user = make_user(work, username="taken")
    with pytest.raises(ConflictError), database.transaction() as work:
        work.before_commit(partial(work.session.add, twin_of(user)))
        say(events, work)
    assert 0 == said(events)


def twin_of(user: User) -> User:
    return User(username=user.username, email=user.email, password_hash=user.password_hash)


def test_an_append_flushed_by_the_last_action_goes_with_what_fails_after_it(database, events):
    def append_and_fail() -> None:
        say(events, work)
        events.flush(work)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), database.transaction() as work:
        work.before_commit(append_and_fail)
    assert 0 == said(events)


def test_a_server_that_ends_the_connection_is_met_as_in_every_unit(
    clean_database_url, database, events
):
    """The connection is not used again, although it was in use a moment ago."""
    with database.transaction() as work:
        say(events, work)
    terminate = "SELECT pg_terminate_backend(%s, 5000)"
    with psycopg.connect(clean_database_url, autocommit=True) as other:
        with database.read() as work:
            pid = work.session.execute(text("SELECT pg_backend_pid()")).scalar_one()
        assert (True,) == other.execute(terminate, [pid]).fetchone()
    with pytest.raises(DatabaseUnavailableError), database.transaction() as work:
        say(events, work)
    with database.transaction() as work:
        say(events, work)
    assert 2 == said(events)


def test_an_append_inside_a_savepoint_goes_with_it(database, events):
    with database.transaction() as work:
        with pytest.raises(ZeroDivisionError), work.savepoint():
            say(events, work)
            events.flush(work)
            raise ZeroDivisionError
        say(events, work)
    assert 1 == said(events)


@pytest.mark.parametrize("happened", [True, False])
def test_a_connection_lost_while_appending_leaves_the_outcome_open(
    proxy, database, events, happened
):
    runs = []

    def unit(work: UnitOfWork) -> None:
        runs.append(work)
        say(events, work)

    setattr(proxy, "cut_after" if happened else "cut_before", lambda data: SAID in data)
    with pytest.raises(DatabaseUnavailableError, match="may or may not") as raised:
        database.run(unit)
    assert "unknown" == raised.value.context["commit_outcome"]
    assert 1 == len(runs)
    proxy.cut_after = proxy.cut_before = None
    end = time.monotonic() + 20
    while happened and not said(events):
        assert time.monotonic() < end, "the server did not finish"
        time.sleep(0.005)
    assert int(happened) == said(events)


def test_a_read_only_unit_refuses_to_append(database, events):
    with pytest.raises(StorageError, match="read-only"), database.transaction(read_only=True) as w:
        say(events, w)


def test_a_demoted_primary_is_met_as_in_every_unit(clean_database_url, database, events):
    """The pool learns of it: none of its connections is used again."""
    name = conninfo_to_dict(clean_database_url)["dbname"]
    with psycopg.connect(clean_database_url, autocommit=True) as other:
        other.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        try:
            with pytest.raises(ReadOnlyDatabaseError), database.transaction() as work:
                say(events, work)
        finally:
            other.execute("SET default_transaction_read_only = off")
            other.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    with database.transaction() as work:
        say(events, work)
    assert 1 == said(events)
