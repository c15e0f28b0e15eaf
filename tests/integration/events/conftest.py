"""An event store on the rolled-back database."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rootstream_db.database import Database
from rootstream_db.services.event_store import EventStore
from rootstream_db.testing import FrozenClock


@pytest.fixture
def events(database: Database, clock: FrozenClock) -> EventStore:
    return EventStore(database, clock=clock)


@pytest.fixture
def seen(events: EventStore) -> Callable[..., list[str]]:
    """A function that tells the types of an aggregate's events, in order."""

    def types(aggregate_type: str = "Stream", aggregate_id: str = "7") -> list[str]:
        return [event.event_type for event in events.read(aggregate_type, aggregate_id)]

    return types
