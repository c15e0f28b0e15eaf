"""Projections on a database with real commits."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from rootstream_db.services.event_store import EventStore, NewEvent
from rootstream_db.services.projections import Projection, Projections
from tests.fixtures.tallies import Tally

BATCH = 5


@pytest.fixture
def events(committed_database, clock):
    return EventStore(committed_database, clock=clock)


@pytest.fixture
def say(committed_database, events) -> Callable[..., None]:
    """A function that appends events of a type."""

    def append(number: int = 1, event_type: str = "Counted") -> None:
        with committed_database.transaction() as work:
            many = [NewEvent(event_type=event_type, data={}) for _ in range(number)]
            events.append_many(work, "Thing", "1", many)

    return append


@pytest.fixture
def tally(committed_database):
    with committed_database.transaction() as work:
        Tally.create(work)
    yield Tally()
    with committed_database.transaction() as work:
        Tally.drop(work)


@pytest.fixture
def process(committed_database, events) -> Callable[..., Projections]:
    """A function that makes what another process would have: projections with their own lease."""

    def make(*known: Projection) -> Projections:
        return Projections(
            committed_database, events, known, batch=BATCH, lease=timedelta(seconds=10)
        )

    return make


@pytest.fixture
def projections(process, tally):
    return process(tally)


@pytest.fixture
def seen(committed_database, tally) -> Callable[[], dict[int, int]]:
    """A function that tells how often the tally counted each position."""

    def look(of: Tally = tally) -> dict[int, int]:
        with committed_database.read() as work:
            return of.seen(work)

    return look
