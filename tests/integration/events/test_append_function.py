"""What PostgreSQL's function append_events promises by itself: order, hashes, the chain."""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import UTC, datetime

import psycopg
import pytest

GENESIS = bytes(32)
ROW = """
    SELECT log_id, position, event_id::text, aggregate_type, aggregate_id, version, event_type,
        schema_version, data::text, metadata::text, user_id, subject_id::text, correlation_id,
        causation_id::text, occurred_at, recorded_at, row_hash
    FROM event_log ORDER BY position
"""
REHASHED = """
    SELECT row_hash = event_row_hash(log_id, position, event_id, aggregate_type, aggregate_id,
        version, event_type, schema_version, data, metadata, user_id, subject_id, correlation_id,
        causation_id, occurred_at, recorded_at)
    FROM event_log ORDER BY position
"""


@pytest.fixture
def connection(worker_database_url):
    with psycopg.connect(worker_database_url) as connection:
        yield connection
        connection.rollback()


def event(**over):
    return {
        "event_id": str(uuid.uuid4()),
        "event_type": "Happened",
        "schema_version": 1,
        "data": {"n": 1},
        "metadata": {},
        "user_id": None,
        "subject_id": None,
        "correlation_id": None,
        "causation_id": None,
        "occurred_at": "2026-01-01T12:00:00.123456+00:00",
    } | over


def entry(aggregate_id, *events, expected=None):
    return {"type": "Stream", "id": aggregate_id, "expected": expected, "events": list(events)}


def append(connection, *entries):
    batch = json.dumps(entries)
    return connection.execute(
        "SELECT position, version, duplicate FROM append_events(0::smallint, %s::jsonb) ORDER BY 1",
        [batch],
    ).fetchall()


def head(connection):
    return connection.execute("SELECT last_position, chain FROM event_log_head").fetchone()


def versions(connection):
    return set(connection.execute("SELECT aggregate_id, version FROM event_stream").fetchall())


def test_positions_and_versions_are_dense_in_the_order_of_the_batch(connection):
    first = append(
        connection, entry("b", event(), event()), entry("a", event()), entry("b", event())
    )
    second = append(connection, entry("a", event()))
    assert [(1, 1, False), (2, 2, False), (3, 1, False), (4, 3, False)] == first
    assert [(5, 2, False)] == second
    assert 5 == head(connection)[0]


def test_an_empty_batch_changes_nothing(connection):
    before = head(connection)
    assert [] == append(connection)
    assert before == head(connection)
    assert 0 == connection.execute("SELECT count(*) FROM event_commit").fetchone()[0]


def test_a_row_hash_can_be_computed_without_postgresql(connection):
    append(
        connection,
        entry('quo"te,', event(data={"n": 1e16, "ü": ["\\", {"x": None}]}, user_id=7)),
        entry("a", event(subject_id=str(uuid.uuid4()), correlation_id="req", metadata={"a": 0.10})),
    )
    for row in connection.execute(ROW).fetchall():
        *values, data, metadata, user, subject, correlation, cause, said, stored, digest = row
        texts = [json.dumps(value, ensure_ascii=False) for value in values]
        texts += [data, metadata]
        texts += [json.dumps(value) for value in (user, subject, correlation, cause)]
        texts += [str(microseconds(said)), str(microseconds(stored))]
        assert hashlib.sha256(f"[{', '.join(texts)}]".encode()).digest() == digest


def microseconds(moment):
    since = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds


def test_a_row_hash_does_not_depend_on_the_settings_of_the_session(connection):
    connection.execute("SET LOCAL TimeZone = 'Asia/Tokyo'; SET LOCAL DateStyle = 'SQL, DMY'")
    append(connection, entry("a", event(user_id=7)))
    connection.execute(
        "SET LOCAL TimeZone = 'America/New_York'; SET LOCAL DateStyle = 'German';"
        "SET LOCAL extra_float_digits = -3; SET LOCAL bytea_output = 'escape'"
    )
    assert [(True,)] == connection.execute(REHASHED).fetchall()


@pytest.mark.parametrize(
    "change",
    [
        "log_id = 1",
        "position = position + 1",
        "event_id = gen_random_uuid()",
        "aggregate_type = 'Strea', aggregate_id = 'ma'",
        "aggregate_id = 'b'",
        "version = 2",
        "event_type = 'Other'",
        "schema_version = 2",
        """data = '{"n": 2}'""",
        """metadata = '{"n": 1}'""",
        "user_id = NULL, correlation_id = '7'",
        "subject_id = causation_id, causation_id = NULL",
        "correlation_id = ''",
        "occurred_at = occurred_at + interval '1 microsecond'",
        "recorded_at = recorded_at + interval '1 microsecond'",
    ],
)
def test_every_column_is_part_of_the_row_hash(connection, change):
    append(connection, entry("a", event(user_id=7, causation_id=str(uuid.uuid4()))))
    assert [(True,)] == connection.execute(REHASHED).fetchall()
    connection.execute("SET LOCAL rootstream.maintenance = 'on'")
    connection.execute(f"UPDATE event_log SET {change}")
    assert [(False,)] == connection.execute(REHASHED).fetchall()


def test_each_append_adds_a_link_to_the_chain(connection):
    append(connection, entry("a", event(), event()), entry("b", event()))
    append(connection, entry("a", event()))
    hashes = [row[-1] for row in connection.execute(ROW).fetchall()]
    first = hashlib.sha256(GENESIS + b"".join(hashes[:3])).digest()
    second = hashlib.sha256(first + hashes[3]).digest()
    links = connection.execute("SELECT last_position, events, chain FROM event_commit ORDER BY 1")
    assert [(3, 3, first), (4, 1, second)] == links.fetchall()
    assert (4, second) == head(connection)


def test_a_repeated_batch_leaves_no_trace(connection):
    batch = entry("a", event(), event(), expected=0), entry("b", event(), expected=0)
    first = append(connection, *batch)
    before = head(connection), versions(connection)
    again = append(connection, *batch)
    assert [(position, version, True) for position, version, _ in first] == again
    assert before == (head(connection), versions(connection))
    assert 1 == connection.execute("SELECT count(*) FROM event_commit").fetchone()[0]


def test_a_version_conflict_says_what_was_expected_and_what_is(connection):
    append(connection, entry("a", event(), event()))
    with pytest.raises(psycopg.Error) as raised:
        append(connection, entry("a", event(), expected=1))
    assert "RS001" == raised.value.sqlstate
    assert {"aggregate": "Stream/a", "expected": 1, "actual": 2} == json.loads(
        str(raised.value.diag.message_detail)
    )


def test_a_taken_event_id_says_how_many_are_taken(connection):
    known, changed, new = event(), event(), event()
    append(connection, entry("a", known, changed))
    with pytest.raises(psycopg.Error) as raised:
        append(connection, entry("a", known, changed | {"data": {}}, new, expected=2))
    assert "RS002" == raised.value.sqlstate
    assert {"events": 3, "taken": 2, "same": 1} == json.loads(str(raised.value.diag.message_detail))


def test_an_id_twice_in_one_batch_is_refused(connection):
    twice = event()
    with pytest.raises(psycopg.Error) as raised:
        append(connection, entry("a", twice, twice))
    assert "RS002" == raised.value.sqlstate


def test_a_log_that_does_not_exist_is_named(connection):
    with pytest.raises(psycopg.errors.NoDataFound, match="there is no event log 5"):
        connection.execute("SELECT append_events(5::smallint, '[]')")
