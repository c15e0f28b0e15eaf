"""Whatever events say and have in common, their columns bring it into the log as it is."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootstream_db.database import Database
from rootstream_db.repositories.event_batches import EventBatch
from rootstream_db.services.event_store import EventStore, NewEvent, PendingEvent
from rootstream_db.services.event_store.batch import batch_of
from rootstream_db.testing import settings_for

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
NAMES = st.sampled_from(["a", "NULL", 'quo"te', "back\\slash", "{,}", "line\nfeed", "ü"]) | (
    TEXTS.filter(bool)
)
OBJECTS = st.dictionaries(
    TEXTS.filter("personal".__ne__), TEXTS | st.integers(0, 9) | st.none(), max_size=3
)
EVENTS = st.builds(
    NewEvent,
    event_type=NAMES,
    data=OBJECTS,
    metadata=st.none() | OBJECTS,
    schema_version=st.integers(1, 3),
    event_id=st.uuids(version=4),
    personal=st.none(),
    user_id=st.none() | st.integers(0, 2**63 - 1),
    subject_id=st.none() | st.uuids(),
    correlation_id=st.none() | NAMES,
    causation_id=st.none() | st.uuids(),
    occurred_at=st.none() | st.datetimes(timezones=st.just(UTC), min_value=datetime(1900, 1, 1)),  # noqa: DTZ001 - hypothesis adds the zone
)
RUNS = st.lists(
    st.tuples(NAMES, NAMES, st.lists(EVENTS, min_size=1, max_size=4)), min_size=1, max_size=4
).filter(lambda runs: len(ids(runs)) == len(set(ids(runs))))

STORED = """
    SELECT aggregate_type, aggregate_id, event_id, event_type, schema_version, data, metadata,
        user_id, subject_id, correlation_id, causation_id, occurred_at,
        row_hash = event_row_hash(log_id, position, event_id, aggregate_type, aggregate_id, version,
            event_type, schema_version, data, metadata, user_id, subject_id, correlation_id,
            causation_id, occurred_at, recorded_at)
    FROM event_log ORDER BY position
"""
IN_ORDER = """
    SELECT position, aggregate_type, aggregate_id, version, row_number() OVER (
        PARTITION BY aggregate_type, aggregate_id ORDER BY position
    ) FROM event_log ORDER BY position
"""
HASHES = "SELECT row_hash FROM event_log ORDER BY position"


def ids(runs: list[tuple[str, str, list[NewEvent]]]) -> list[uuid.UUID | None]:
    return [event.event_id for _, _, events in runs for event in events]


def pending(store: EventStore, runs: list[tuple[str, str, list[NewEvent]]]) -> list[PendingEvent]:
    return [
        waiting
        for kind, name, events in runs
        for waiting in store.prepare(kind, name, events, now=NOW)
    ]


def append(connection: psycopg.Connection, batch: EventBatch) -> list[tuple]:
    return connection.execute(
        """SELECT events, position, version, duplicate FROM append_events(
            0::smallint, %s::text[], %s::text[], %s::bigint[], %s::integer[], %s::uuid[],
            %s::text[], %s::smallint[], %s::json, %s::json, %s::bigint[], %s::uuid[], %s::text[],
            %s::uuid[], %s::timestamptz[])""",
        batch,
    ).fetchall()


@pytest.fixture(scope="module")
def connection(worker_database_url):
    with psycopg.connect(worker_database_url) as connection:
        yield connection
        connection.rollback()


@pytest.fixture(scope="module")
def store(worker_database_url):
    """A store that prepares events; it connects to nothing."""
    with Database(
        settings_for(worker_database_url, "redis://nowhere.invalid").database
    ) as database:
        yield EventStore(database)


@settings(deadline=None)
@given(runs=RUNS)
def test_every_event_stands_in_the_log_as_it_was_said(connection, store, runs):
    batch = batch_of(pending(store, runs))
    append(connection, batch)
    said = [
        (
            kind,
            name,
            event.event_id,
            event.event_type,
            event.schema_version,
            event.data,
            event.metadata or {},
            event.user_id,
            event.subject_id,
            event.correlation_id,
            event.causation_id,
            event.occurred_at or NOW,
            True,
        )
        for kind, name, events in runs
        for event in events
    ]
    assert said == connection.execute(STORED).fetchall()
    for number, (position, _, _, version, expected) in enumerate(
        connection.execute(IN_ORDER).fetchall(), 1
    ):
        assert (number, expected) == (position, version)
    connection.rollback()


@settings(deadline=None)
@given(runs=RUNS)
def test_said_again_it_comes_back_event_by_event_and_changes_nothing(connection, store, runs):
    batch = batch_of(pending(store, runs))
    first = append(connection, batch)
    places = [
        (1, position + step, version + step, True)
        for events, position, version, _ in first
        for step in range(events)
    ]
    before = connection.execute(HASHES).fetchall()
    assert places == append(connection, batch)
    assert before == connection.execute(HASHES).fetchall()
    connection.rollback()


@settings(deadline=None)
@given(runs=RUNS)
def test_one_json_array_says_the_same(connection, store, runs):
    """The other form of the function, for tools, writes the same rows."""
    events = pending(store, runs)
    append(connection, batch_of(events))
    columns = connection.execute(STORED).fetchall()
    connection.rollback()
    batch = [
        {
            "type": event.aggregate_type,
            "id": event.aggregate_id,
            "expected": None,
            "events": [
                {
                    "event_id": str(event.event_id),
                    "event_type": event.event_type,
                    **event.facts._asdict(),
                    "data": json.loads(event.facts.data),
                    "metadata": json.loads(event.facts.metadata),
                }
            ],
        }
        for event in events
    ]
    placed = connection.execute(
        "SELECT event_id, position, duplicate FROM append_events(0::smallint, %s::jsonb)",
        [json.dumps(batch, default=str)],
    ).fetchall()
    assert [(event.event_id, n, False) for n, event in enumerate(events, 1)] == placed
    assert columns == connection.execute(STORED).fetchall()
    connection.rollback()
