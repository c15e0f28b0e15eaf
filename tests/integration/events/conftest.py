"""An event store on the rolled-back database."""

from __future__ import annotations

import pytest

from rootstream_db.database import Database
from rootstream_db.services.event_store import EventStore
from rootstream_db.testing import FrozenClock


@pytest.fixture
def events(database: Database, clock: FrozenClock) -> EventStore:
    return EventStore(database, clock=clock)
