"""Appending through a unit of work: when events are written, and what they learn."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from rootstream_db.correlation import correlation
from rootstream_db.errors import (
    StorageError,
    ValidationError,
    VersionConflictError,
)
from rootstream_db.services.event_store import EXISTS, NEW, EventStore, NewEvent
from rootstream_db.testing import EPOCH


def test_an_event_is_written_when_the_unit_commits(database, events):
    with database.transaction() as work:
        event = events.append(work, "Stream", "7", "StreamCreated", {"name": "Speedrun"})
        assert (None, None) == (event.position, event.version)
        assert [] == list(events.read("Stream", "7", work=work))
    assert 1 == event.version
    (stored,) = events.read("Stream", "7")
    assert (event.position, event.event_id) == (stored.position, stored.event_id)
    assert event.recorded_at == stored.recorded_at
    assert not event.duplicate


def test_an_event_of_a_rolled_back_unit_is_never_written(database, events, seen):
    with pytest.raises(RuntimeError), database.transaction() as work:
        events.append(work, "Stream", "7", "StreamCreated", {})
        events.flush(work)
        raise RuntimeError
    assert [] == seen()
    with database.transaction() as work:
        event = events.append(work, "Stream", "7", "StreamCreated", {}, expected_version=NEW)
    assert 1 == event.version


def test_everything_said_about_an_event_comes_back(database, events):
    when = datetime(2025, 12, 31, 23, 59, 59, 123456, tzinfo=UTC)
    given = {
        "event_id": uuid.uuid4(),
        "metadata": {"ip": "192.0.2.1"},
        "schema_version": 3,
        "user_id": 2**40,
        "subject_id": uuid.uuid4(),
        "correlation_id": "req-7",
        "causation_id": uuid.uuid4(),
        "occurred_at": when,
    }
    with database.transaction() as work:
        events.append(work, "Stream", "7", "StreamCreated", {"name": "Spéedrun"}, **given)
    (stored,) = events.read("Stream", "7")
    assert given == {name: getattr(stored, name) for name in given}
    assert {"name": "Spéedrun"} == stored.data
    assert ("Stream", "7", "StreamCreated") == (
        stored.aggregate_type,
        stored.aggregate_id,
        stored.event_type,
    )


def test_what_is_left_out_has_a_default(database, events):
    with database.transaction() as work, correlation("req-8"):
        event = events.append(work, "Stream", "7", "StreamCreated", {})
    (stored,) = events.read("Stream", "7")
    assert EPOCH == stored.occurred_at
    assert "req-8" == stored.correlation_id
    assert (1, {}, None, None) == (
        stored.schema_version,
        stored.metadata,
        stored.user_id,
        stored.subject_id,
    )
    assert 7 == event.event_id.version


def test_a_payload_changed_after_append_is_written_as_it_was(database, events):
    data = {"name": "before"}
    with database.transaction() as work:
        events.append(work, "Stream", "7", "StreamCreated", data)
        data["name"] = "after"
    (stored,) = events.read("Stream", "7")
    assert {"name": "before"} == stored.data


def test_positions_follow_the_order_of_the_appends_across_aggregates(database, events):
    with database.transaction() as work:
        appended = [
            events.append(work, kind, "7", "Happened", {"number": number})
            for number, kind in enumerate(["Z", "A", "Z", "M", "A"])
        ]
    positions = [event.position for event in appended]
    assert list(range(positions[0], positions[0] + 5)) == positions
    assert [1, 1, 2, 1, 2] == [event.version for event in appended]


def test_append_many_keeps_the_order_and_checks_the_version_before_the_first(database, events):
    several = [NewEvent(event_type="Happened", data={"number": number}) for number in range(3)]
    with database.transaction() as work:
        first = events.append_many(work, "Stream", "7", several, expected_version=NEW)
        second = events.append_many(work, "Stream", "7", several, expected_version=3)
    assert [1, 2, 3] == [event.version for event in first]
    assert [4, 5, 6] == [event.version for event in second]
    assert [0, 1, 2, 0, 1, 2] == [event.data["number"] for event in events.read("Stream", "7")]


def test_append_many_appends_none_when_one_is_refused(database, events, seen):
    good, bad = (
        NewEvent(event_type="A", data={}),
        NewEvent(event_type="B", data={"x": float("nan")}),
    )
    with database.transaction() as work:
        with pytest.raises(ValidationError, match=r"data\.x"):
            events.append_many(work, "Stream", "7", [good, bad])
        assert [] == events.append_many(work, "Stream", "7", [])
    assert [] == seen()


@pytest.mark.parametrize("expected", [None, NEW])
def test_a_new_aggregate_meets_the_expectation(database, events, expected, seen):
    with database.transaction() as work:
        events.append(work, "Stream", "7", "StreamCreated", {}, expected_version=expected)
    assert ["StreamCreated"] == seen()


@pytest.mark.parametrize("expected", [None, EXISTS, 2])
def test_an_aggregate_with_two_events_meets_the_expectation(database, events, expected, seen):
    with database.transaction() as work:
        events.append(work, "Stream", "7", "A", {})
        events.append(work, "Stream", "7", "B", {})
    with database.transaction() as work:
        events.append(work, "Stream", "7", "C", {}, expected_version=expected)
    assert ["A", "B", "C"] == seen()


@pytest.mark.parametrize(
    ("before", "expected", "shown"),
    [(0, EXISTS, "exists"), (0, 1, 1), (2, NEW, 0), (2, 1, 1), (2, 3, 3)],
)
def test_a_wrong_expectation_undoes_the_whole_unit(database, events, before, expected, shown, seen):
    several = [NewEvent(event_type="A", data={})] * before
    with database.transaction() as work:
        events.append_many(work, "Stream", "7", several)
    with pytest.raises(VersionConflictError) as raised, database.transaction() as work:
        events.append(work, "Other", "1", "B", {})
        events.append(work, "Stream", "7", "B", {}, expected_version=expected)
    assert ("Stream/7", shown, before) == (
        raised.value.aggregate,
        raised.value.expected,
        raised.value.actual,
    )
    assert before == len(seen())
    assert [] == seen("Other", "1")


def test_expected_versions_of_one_unit_are_checked_in_order(database, events, seen):
    with database.transaction() as work:
        events.append(work, "Stream", "7", "A", {}, expected_version=NEW)
        events.append(work, "User", "1", "B", {})
        events.append(work, "Stream", "7", "C", {}, expected_version=1)
        events.append(work, "Stream", "7", "D", {}, expected_version=EXISTS)
    assert ["A", "C", "D"] == seen()
    with pytest.raises(VersionConflictError) as raised, database.transaction() as work:
        events.append(work, "Stream", "7", "E", {}, expected_version=3)
        events.append(work, "Stream", "7", "F", {}, expected_version=3)
    assert (3, 4) == (raised.value.expected, raised.value.actual)


def test_flush_writes_at_once_and_the_commit_writes_only_the_rest(database, events, seen):
    with database.transaction() as work:
        first = events.append(work, "Stream", "7", "A", {})
        events.flush(work)
        assert 1 == first.version
        assert ["A"] == [event.event_type for event in events.read("Stream", "7", work=work)]
        second = events.append(work, "Stream", "7", "B", {}, expected_version=1)
        events.flush(work)
        events.flush(work)
        third = events.append(work, "Stream", "7", "C", {}, expected_version=2)
    assert [1, 2, 3] == [first.version, second.version, third.version]
    assert ["A", "B", "C"] == seen()


def test_an_event_appended_by_a_later_before_commit_action_is_written(database, events, seen):
    with database.transaction() as work:
        events.append(work, "Stream", "7", "A", {})
        work.before_commit(lambda: events.append(work, "Stream", "7", "B", {}))
    assert ["A", "B"] == seen()


def test_a_rolled_back_savepoint_takes_its_events_with_it(database, events, seen):
    with database.transaction() as work:
        kept = events.append(work, "Stream", "7", "A", {})
        with pytest.raises(RuntimeError), work.savepoint():
            events.append(work, "Stream", "7", "Lost", {})
            raise RuntimeError
        events.append(work, "Stream", "7", "B", {}, expected_version=1)
    assert ["A", "B"] == seen()
    assert 1 == kept.version


def test_any_number_of_ids_is_looked_up_at_once(database):
    with database.transaction() as work:
        assert set() == work.events.list_stored_ids(uuid.uuid4() for _ in range(66_000))


def test_what_a_lost_savepoint_flushed_for_others_is_written_after_all(database, events, seen):
    with database.transaction() as work:
        events.append(work, "Stream", "7", "A", {})
        with pytest.raises(RuntimeError), work.savepoint():
            events.append(work, "Stream", "7", "Lost", {})
            events.flush(work)
            raise RuntimeError
        with work.savepoint():
            events.append(work, "Stream", "7", "B", {})
            events.flush(work)
        events.append(work, "Stream", "7", "C", {})
    assert ["A", "B", "C"] == seen()


def test_a_version_conflict_in_a_savepoint_can_be_survived(database, events, seen):
    with database.transaction() as work:
        events.append(work, "Stream", "7", "A", {})
        events.flush(work)
        with pytest.raises(VersionConflictError), work.savepoint():
            events.append(work, "Stream", "7", "B", {}, expected_version=5)
            events.flush(work)
        events.append(work, "Stream", "7", "C", {})
    assert ["A", "C"] == seen()


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("aggregate_type", ""),
        ("aggregate_type", "x" * 101),
        ("aggregate_id", ""),
        ("aggregate_id", "x" * 201),
        ("aggregate_id", "a\0b"),
        ("aggregate_id", 7),
        ("event_type", "x" * 101),
        ("correlation_id", "x" * 201),
        ("schema_version", 0),
        ("schema_version", 2**15),
        ("expected_version", -2),
        ("occurred_at", datetime(2026, 1, 1)),  # noqa: DTZ001 - the mistake under test
        ("data", ["not an object"]),
        ("metadata", {"when": datetime(2026, 1, 1)}),  # noqa: DTZ001 - the mistake under test
    ],
)
def test_a_wrong_argument_is_refused_at_once_by_name(database, events, field, wrong):
    given = {
        "aggregate_type": "Stream",
        "aggregate_id": "7",
        "event_type": "A",
        "data": {},
        field: wrong,
    }
    with database.transaction() as work:
        with pytest.raises(ValidationError) as raised:
            events.append(work, **given)
        assert str(raised.value.field).startswith(field)


def test_names_of_the_greatest_length_are_stored(database, events):
    with database.transaction() as work:
        events.append(
            work,
            "ü" * 100,
            "ü" * 200,
            "ü" * 100,
            {},
            correlation_id="ü" * 200,
            schema_version=2**15 - 1,
        )
    (stored,) = events.read("ü" * 100, "ü" * 200)
    assert ("ü" * 100, "ü" * 200) == (stored.event_type, stored.correlation_id)


def test_the_limit_of_a_payload_can_be_set(database):
    events = EventStore(database, max_payload_bytes=20)
    with database.transaction() as work:
        events.append(work, "Stream", "7", "A", {"n": "x" * 12})
        with pytest.raises(ValidationError, match="21 bytes of JSON, 20 allowed"):
            events.append(work, "Stream", "7", "A", {"n": "x" * 13})


@pytest.mark.parametrize("unit", ["read", "transaction"])
def test_appending_to_a_read_only_unit_is_refused(committed_database, unit):
    events = EventStore(committed_database)
    reading = (
        committed_database.read()
        if unit == "read"
        else committed_database.transaction(read_only=True)
    )
    with pytest.raises(StorageError, match="read-only"), reading as work:
        events.append(work, "Stream", "7", "A", {})
    assert [] == list(events.read_all())


def test_ids_made_later_sort_later(database, events, clock):
    with database.transaction() as work:
        made = []
        for _ in range(20):
            made.append(events.append(work, "Stream", "7", "A", {}).event_id)
            clock.advance(timedelta(milliseconds=1))
    assert sorted(made) == made
    assert {7} == {event_id.version for event_id in made}
    assert {uuid.RFC_4122} == {event_id.variant for event_id in made}


def test_the_repr_of_events_shows_no_payload(database, events):
    secret = "something personal"
    with database.transaction() as work:
        new = NewEvent(event_type="A", data={"x": secret}, metadata={"x": secret})
        (pending,) = events.append_many(work, "Stream", "7", [new])
    (stored,) = events.read("Stream", "7")
    assert secret not in f"{new!r} {pending!r} {stored!r}"
