"""An event store on the rolled-back database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from sqlalchemy import event

from rootstream_db.database import Database
from rootstream_db.services.event_store import EventStore
from rootstream_db.testing import FrozenClock
from rootstream_db.unit_of_work import UnitOfWork


@pytest.fixture
def events(database: Database, clock: FrozenClock) -> EventStore:
    return EventStore(database, clock=clock)


@pytest.fixture
def seen(events: EventStore) -> Callable[..., list[str]]:
    """A function that tells the types of an aggregate's events, in order."""

    def types(aggregate_type: str = "Stream", aggregate_id: str = "7") -> list[str]:
        return [event.event_type for event in events.read(aggregate_type, aggregate_id)]

    return types


@pytest.fixture
def statements() -> Callable[[UnitOfWork], AbstractContextManager[list[str]]]:
    """A context that collects what a unit asks of the database."""

    @contextmanager
    def collecting(work: UnitOfWork) -> Iterator[list[str]]:
        made: list[str] = []

        def collect(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            made.append(statement)

        connection = work.session.connection()
        event.listen(connection, "before_cursor_execute", collect)
        yield made
        event.remove(connection, "before_cursor_execute", collect)

    return collecting
