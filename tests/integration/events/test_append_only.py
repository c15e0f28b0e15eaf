"""What is recorded stays: the database itself refuses to change, delete or truncate it."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from rootstream_db.errors import AppendOnlyError
from rootstream_db.services.event_store import NEW

HOW_TO = Path(__file__).parents[3] / "docs" / "how-to" / "protect-the-event-log.md"
MAINTENANCE = "SET LOCAL rootstream.maintenance = 'on'"

CHANGES = [
    "UPDATE event_log SET user_id = 8",
    "DELETE FROM event_log",
    "DELETE FROM event_log WHERE position = 99",
    "TRUNCATE event_log",
    "UPDATE event_commit SET events = 2",
    "DELETE FROM event_commit",
    "TRUNCATE event_commit",
    "DELETE FROM event_log_head",
    "TRUNCATE event_log_head",
    "UPDATE event_log_head SET last_position = last_position - 1",
    "UPDATE event_log_head SET chain = sha256('')",
    "UPDATE event_log_head SET last_position = last_position + 1, epoch = gen_random_uuid()",
    *(
        change.format(table)
        for table in (
            "event_archive",
            "event_archived_id",
            "event_archive_aggregate",
            "event_archive_user",
            "event_archive_subject",
        )
        for change in ("INSERT INTO {0} SELECT * FROM {0}", "DELETE FROM {0}", "TRUNCATE {0}")
    ),
]


@pytest.fixture
def recorded(work, events):
    """A unit with one event in the log."""
    events.append(work, "Stream", "7", "StreamStarted", {}, expected_version=NEW)
    events.flush(work)
    return work


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_log_is_refused(recorded, change):
    connection = recorded.session.connection()
    (table,) = re.findall(r"event_\w+", change)[:1]
    refused = f"{change.split()[0]} on {table} is refused: the event log is append-only"
    with pytest.raises(AppendOnlyError, match=refused), recorded.savepoint():
        connection.exec_driver_sql(change)


def test_maintenance_by_the_owner_may_delete(recorded):
    connection = recorded.session.connection()
    connection.exec_driver_sql(MAINTENANCE)
    connection.exec_driver_sql("DELETE FROM event_log")
    connection.exec_driver_sql("UPDATE event_log_head SET last_position = 0")
    assert 0 == connection.exec_driver_sql("SELECT count(*) FROM event_log").scalar_one()


def test_a_session_without_triggers_is_refused_too(recorded):
    connection = recorded.session.connection()
    connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
    with pytest.raises(AppendOnlyError), recorded.savepoint():
        connection.exec_driver_sql("DELETE FROM event_log")


def test_the_roles_of_the_how_to_stop_the_application_and_let_it_append(fresh_database_url):
    block = re.findall(r"```sql\n(.*?)```", HOW_TO.read_text(encoding="utf-8"), re.DOTALL)[0]
    append = """SELECT position FROM append_events(0::smallint, '[{"type": "Stream", "id": "7",
        "expected": null, "events": [{"event_id": "7e57ed00-0000-7000-8000-000000000001",
        "event_type": "Happened", "schema_version": 1, "data": {}, "metadata": {},
        "occurred_at": "2026-01-01T12:00:00Z"}]}]')"""
    with psycopg.connect(fresh_database_url) as connection:
        connection.execute(block.encode())
        connection.execute("SET LOCAL ROLE rootstream_app")
        assert (1,) == connection.execute(append).fetchone()
        connection.execute(MAINTENANCE)
        connection.execute("SAVEPOINT before")
        for change in CHANGES:
            with pytest.raises(psycopg.Error) as caught:
                connection.execute(change.encode())
            assert caught.value.sqlstate in {"42501", "RS003"}, change
            connection.execute("ROLLBACK TO before")
        connection.rollback()
