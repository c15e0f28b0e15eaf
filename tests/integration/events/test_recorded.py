"""Recorded events are values: what is read late is the same as what is read at once."""

from __future__ import annotations

import copy
import pickle
import uuid
from dataclasses import FrozenInstanceError, astuple, replace
from datetime import UTC, datetime

import pytest

from rootstream_db.database import Database
from rootstream_db.errors import DatabaseUnavailableError, ValidationError
from rootstream_db.services.event_store import EventStore, NewEvent, RecordedEvent
from tests.factories import make_user

DATA = {"text": "snowman \u2603", "count": 2**63 - 1, "nested": [{"deep": None}], "rate": 0.1}


@pytest.fixture
def stored(events: EventStore, database: Database) -> RecordedEvent:
    """An event with something in every field."""
    with database.transaction() as work:
        event = NewEvent(
            event_type="Spoken",
            data=DATA,
            metadata={"client": "test"},
            user_id=make_user(work).id,
            subject_id=uuid.UUID(int=1),
            correlation_id="request-1",
            causation_id=uuid.UUID(int=2),
            event_id=uuid.UUID(int=3),
            occurred_at=datetime(1969, 7, 20, 20, 17, 40, 123456, tzinfo=UTC),
        )
        events.append_many(work, "Voice", "1", [event])
    (found,) = events.read("Voice", "1")
    return found


def test_every_field_is_what_was_appended(stored: RecordedEvent):
    assert (1, "Voice", "1", "Spoken", 1) == (
        stored.version,
        stored.aggregate_type,
        stored.aggregate_id,
        stored.event_type,
        stored.schema_version,
    )
    assert (DATA, {"client": "test"}) == (stored.data, stored.metadata)
    assert (uuid.UUID(int=3), uuid.UUID(int=1), uuid.UUID(int=2)) == (
        stored.event_id,
        stored.subject_id,
        stored.causation_id,
    )
    assert datetime(1969, 7, 20, 20, 17, 40, 123456, tzinfo=UTC) == stored.occurred_at
    assert stored.user_id is not None
    assert "request-1" == stored.correlation_id


def test_a_field_is_read_once(stored: RecordedEvent):
    assert stored.data is stored.data


def test_events_are_equal_whoever_looked_at_them(stored: RecordedEvent, events: EventStore):
    assert stored.data
    (again,) = events.read("Voice", "1")
    assert stored == again
    assert stored == RecordedEvent(*astuple(again))
    assert stored != replace(again, data={})


def test_an_event_survives_copying_and_another_process(events: EventStore, stored: RecordedEvent):
    (unread,) = events.read("Voice", "1")
    assert stored == pickle.loads(pickle.dumps(unread))  # noqa: S301 - pickled a moment ago
    assert stored == copy.copy(unread) == copy.deepcopy(unread)


def test_the_repr_is_short_of_what_may_be_personal(stored: RecordedEvent):
    assert "snowman" not in repr(stored)
    assert "client" not in repr(stored)
    assert "event_id=UUID('00000000-0000-0000-0000-000000000003')" in repr(stored)


def test_an_event_cannot_be_changed(stored: RecordedEvent):
    with pytest.raises(FrozenInstanceError):
        stored.data = {}  # type: ignore[misc] # that is the point


def test_a_name_that_is_no_field_is_refused_with_that_name(stored: RecordedEvent):
    with pytest.raises(AttributeError, match="'RecordedEvent' object has no attribute 'payload'"):
        stored.payload  # type: ignore[attr-defined] # noqa: B018 - that is the point


@pytest.mark.parametrize("name", ["nul\0", "half \ud83d"])
def test_a_name_that_cannot_be_sent_is_a_validation_error(committed_database: Database, name: str):
    with pytest.raises(ValidationError):
        list(EventStore(committed_database).read("Voice", name))


def test_reading_outlasts_a_lost_connection(committed_database: Database):
    events = EventStore(committed_database)
    with pytest.raises(DatabaseUnavailableError), committed_database.read() as work:
        driver = work.session.connection().connection.driver_connection
        assert driver is not None
        driver.close()
        list(events.read("Voice", "1", work=work))
    assert [] == list(events.read("Voice", "1"))
