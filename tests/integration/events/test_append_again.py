"""Appending what was appended before: harmless when it is the same, refused when it is not."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest

from rootstream_db.correlation import correlation
from rootstream_db.errors import ConflictError, ValidationError
from rootstream_db.services.event_store import NEW, NewEvent


def test_an_append_repeated_under_its_id_changes_nothing(database, events, clock):
    def attempt(request):
        with database.transaction() as work, correlation(request):
            return events.append(
                work, "Stream", "7", "A", {"n": 1}, event_id=event_id, expected_version=NEW
            )

    event_id = uuid.uuid4()
    attempt("first")
    clock.advance(60)
    event = attempt("again")
    (stored,) = events.read("Stream", "7")
    assert "first" == stored.correlation_id
    assert event.duplicate
    assert (stored.position, stored.version, stored.recorded_at) == (
        event.position,
        event.version,
        event.recorded_at,
    )


def test_a_repeated_append_does_not_move_the_aggregate_or_the_log(database, events):
    given = [NewEvent(event_type="A", data={}, event_id=uuid.uuid4()) for _ in range(3)]
    with database.transaction() as work:
        first = events.append_many(work, "Stream", "7", given)
    with database.transaction() as work:
        events.append_many(work, "Stream", "7", given)
    with database.transaction() as work:
        following = events.append(work, "Stream", "7", "B", {})
    assert 4 == following.version
    assert first[-1].position + 1 == following.position


@pytest.mark.parametrize(
    "change",
    [
        {"aggregate_id": "8"},
        {"aggregate_type": "User"},
        {"event_type": "B"},
        {"data": {"n": 2}},
        {"metadata": {"x": 1}},
        {"schema_version": 2},
        {"user_id": 5},
        {"subject_id": uuid.UUID(int=1)},
        {"causation_id": uuid.UUID(int=1)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_event_under_a_taken_id_is_refused(database, events, change, seen):
    given = {
        "aggregate_type": "Stream",
        "aggregate_id": "7",
        "event_type": "A",
        "data": {"n": 1},
        "event_id": uuid.uuid4(),
    }
    with database.transaction() as work:
        events.append(work, **given)
    with pytest.raises(ConflictError, match="taken"), database.transaction() as work:
        events.append(work, **(given | change))
    assert ["A"] == seen()
    assert 1 == len(list(events.read_all()))


@pytest.mark.parametrize("expected", [None, 1, NEW])
def test_a_batch_of_which_a_part_is_stored_is_refused_whole(database, events, expected, seen):
    event_id = uuid.uuid4()
    with database.transaction() as work:
        events.append(work, "Stream", "7", "A", {}, event_id=event_id)
    with pytest.raises(ConflictError, match="taken"), database.transaction() as work:
        events.append(work, "Stream", "7", "A", {}, event_id=event_id, expected_version=expected)
        events.append(work, "Stream", "7", "B", {})
    assert ["A"] == seen()


def test_one_id_twice_in_a_unit_is_refused(database, events):
    event_id = uuid.uuid4()
    with pytest.raises(ValidationError, match="twice"), database.transaction() as work:
        events.append(work, "Stream", "7", "A", {}, event_id=event_id)
        events.append(work, "Stream", "7", "A", {}, event_id=event_id)


ARCHIVED = """
    INSERT INTO event_archived_id (event_id, position, version, recorded_at, content_hash)
    SELECT event_id, position, version, recorded_at, event_content_hash(aggregate_type,
        aggregate_id, event_type, schema_version, data, metadata, user_id, subject_id, causation_id)
    FROM event_log
"""


@pytest.fixture(params=["one", "many"])
def archived(request, database, events):
    """Events of which only the archive still knows, and what was said about them."""
    count = 1 if request.param == "one" else 3
    given = [NewEvent(event_type="A", data={"n": 1}, event_id=uuid.uuid4()) for _ in range(count)]
    with database.transaction() as work:
        first = events.append_many(work, "Stream", "7", given)
        events.flush(work)
        maintenance = "SET LOCAL rootstream.maintenance = 'on'"
        for statement in (maintenance, ARCHIVED, "DELETE FROM event_log"):
            work.session.connection().exec_driver_sql(statement)
    return given, first


@pytest.mark.parametrize("expected_version", [None, NEW])
def test_what_is_archived_is_repeated_without_harm(database, events, archived, expected_version):
    given, first = archived
    with database.transaction() as work:
        again = events.append_many(work, "Stream", "7", given, expected_version=expected_version)
    assert [(event.position, event.version, event.recorded_at, True) for event in first] == [
        (event.position, event.version, event.recorded_at, event.duplicate) for event in again
    ]
    with database.transaction() as work:
        following = events.append(work, "Stream", "7", "B", {})
    assert (first[-1].position + 1, len(given) + 1) == (following.position, following.version)


def test_an_archived_id_names_its_event_for_ever(database, events, archived):
    given, _ = archived
    other = replace(given[-1], data={"n": 2})
    with pytest.raises(ConflictError), database.transaction() as work:
        events.append_many(work, "Stream", "7", [*given[:-1], other])
    with pytest.raises(ConflictError), database.transaction() as work:
        events.append_many(work, "Stream", "7", [given[0], NewEvent(event_type="B", data={})])
