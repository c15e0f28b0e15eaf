"""Reading: in order, in pages, from where the last reading ended."""

from __future__ import annotations

from itertools import islice

import pytest

from rootstream_db.errors import ValidationError
from rootstream_db.services.event_store import EventStore, NewEvent


@pytest.fixture
def ten(database, events):
    """Five events of Stream/7 in turn with five of User/1, who did them all but the last."""
    with database.transaction() as work:
        for number in range(1, 6):
            events.append(work, "Stream", "7", "Seen", {"n": number}, user_id=1)
            events.append(work, "User", "1", "Did", {"n": number}, user_id=1 if number < 5 else 2)


def numbers(found):
    return [event.data["n"] for event in found]


@pytest.mark.parametrize("batch", [1, 2, 5, 6, 1000])
def test_the_size_of_a_page_changes_nothing(ten, events, batch):
    assert [1, 2, 3, 4, 5] == numbers(events.read("Stream", "7", batch=batch))
    assert [1, 1, 2, 2, 3, 3, 4, 4, 5, 5] == numbers(events.read_all(batch=batch))
    assert [1, 1, 2, 2, 3, 3, 4, 4, 5] == numbers(events.audit_trail(1, batch=batch))


@pytest.mark.parametrize("batch", [0, -1])
def test_a_page_has_at_least_one_event(events, batch):
    with pytest.raises(ValidationError, match="batch"):
        events.read_all(batch=batch)


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({"after_version": 3}, [4, 5]),
        ({"to_version": 2}, [1, 2]),
        ({"after_version": 1, "to_version": 3}, [2, 3]),
        ({"after_version": 5}, []),
        ({"after_version": 2, "to_version": 2}, []),
    ],
    ids=str,
)
def test_a_part_of_an_aggregate_can_be_read(ten, events, bounds, expected):
    assert expected == numbers(events.read("Stream", "7", **bounds, batch=1))


def test_an_unknown_aggregate_has_no_events(events):
    assert [] == list(events.read("Stream", "none"))


def test_reading_goes_on_after_the_last_position(ten, events):
    first = list(islice(events.read_all(), 4))
    rest = list(events.read_all(after_position=first[-1].position))
    together = [event.position for event in [*first, *rest]]
    assert list(range(together[0], together[0] + 10)) == together
    assert [4, 5] == numbers(events.audit_trail(1, after_position=rest[2].position))


@pytest.mark.parametrize(
    ("types", "expected"), [({"Did"}, 5), (["Did", "Seen"], 10), (set(), 0), ({"None"}, 0)], ids=str
)
def test_the_log_can_be_read_by_type(ten, events, types, expected):
    found = list(events.read_all(types=types, batch=2))
    assert expected == len(found)
    assert {event.event_type for event in found} <= set(types)


def test_a_user_who_did_nothing_has_an_empty_trail(ten, events):
    assert [] == list(events.audit_trail(99))


def test_a_unit_reads_what_it_has_flushed(database, events):
    with database.transaction() as work:
        events.append(work, "Stream", "7", "A", {"n": 1}, user_id=1)
        events.flush(work)
        assert [1] == numbers(events.read("Stream", "7", work=work))
        assert [1] == numbers(events.read_all(work=work))
        assert [1] == numbers(events.audit_trail(1, work=work))


def test_a_reader_holds_no_connection_between_pages(committed_database):
    events = EventStore(committed_database)
    with committed_database.transaction() as work:
        events.append_many(work, "Stream", "7", [NewEvent(event_type="A", data={})] * 3)
    reading = events.read("Stream", "7", batch=2)
    next(reading)
    assert 0 == committed_database.pool_status().in_use
    assert 2 == len(list(reading))


def test_events_appended_while_reading_are_found_by_the_same_reader(committed_database):
    events = EventStore(committed_database)

    def append():
        with committed_database.transaction() as work:
            events.append(work, "Stream", "7", "A", {})

    append()
    reading = events.read_all(batch=1)
    versions = [next(reading).version]
    append()
    versions += [event.version for event in reading]
    assert [1, 2] == versions


def test_an_event_that_was_read_cannot_be_changed(ten, events):
    event = next(events.read("Stream", "7"))
    with pytest.raises(AttributeError):
        event.version = 9
    assert not hasattr(event, "__dict__")
