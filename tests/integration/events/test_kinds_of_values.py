"""Ids, numbers and times may be of classes derived from Python's own, as libraries make them."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest

from rootstream_db.errors import ValidationError
from rootstream_db.services.event_store import EventStore, NewEvent


class LibraryUuid(uuid.UUID):
    """As the packages that make UUIDs of version 7 have it."""


class LibraryTime(datetime):
    """As the packages for calendars, and those that freeze the clock in tests, have it."""


NOON = LibraryTime(2026, 1, 1, 12, tzinfo=UTC)
ODD = timezone(timedelta(minutes=19, seconds=32))
"""Amsterdam's time before 1937, as ``zoneinfo`` knows it."""


def test_ids_and_times_of_derived_classes_are_stored(database, events):
    given = LibraryUuid(int=uuid.uuid4().int)
    ids = {"event_id": given, "subject_id": given, "causation_id": given}
    with database.transaction() as work:
        events.append(work, "Stream", "7", "Said", {"at": NOON}, occurred_at=NOON, **ids)
    (event,) = events.read("Stream", "7")
    assert (given, given, given) == (event.event_id, event.subject_id, event.causation_id)
    assert NOON == event.occurred_at


def test_the_clock_may_be_of_a_derived_class(database):
    events = EventStore(database, clock=lambda: NOON)
    (waiting,) = events.prepare("Stream", "7", [NewEvent(event_type="Said", data={})])
    with database.transaction() as work:
        events.append_prepared(work, [waiting])
    (event,) = events.read("Stream", "7")
    assert NOON == event.occurred_at


def test_a_time_zone_may_be_off_by_seconds_where_no_text_is_made_of_it(database, events):
    then = datetime(1900, 1, 1, tzinfo=ODD)
    with database.transaction() as work:
        events.append(work, "Stream", "7", "Said", {}, occurred_at=then)
        with pytest.raises(ValidationError, match="offset of seconds") as caught:
            events.append(work, "Stream", "7", "Said", {"at": then})
        assert "data.at" == caught.value.field
    (event,) = events.read("Stream", "7")
    assert then == event.occurred_at


def test_a_time_that_could_not_be_read_back_is_refused_at_once(database, events):
    last = datetime(9999, 12, 31, 23, tzinfo=timezone(-timedelta(hours=5)))
    with database.transaction() as work, pytest.raises(ValidationError, match="beyond the years"):
        events.append(work, "Stream", "7", "Said", {}, occurred_at=last)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**64, 10**40])
@pytest.mark.parametrize("field", ["user_id", "expected_version"])
def test_numbers_beyond_64_bits_are_refused_at_once(database, events, field, number):
    with database.transaction() as work:
        with pytest.raises(ValidationError) as caught:
            events.append(work, "Stream", "7", "Said", {}, **{field: number})
        assert field == caught.value.field
