from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from rootstream_db import schema
from rootstream_db.database import Database
from rootstream_db.errors import StorageTimeoutError, ValidationError
from rootstream_db.models import Base, ViewerSession
from rootstream_db.services.partitions import PartitionManager
from rootstream_db.testing import EPOCH, settings_for
from tests.factories import make_stream

DAY = timedelta(days=1)


@pytest.fixture
def own(fresh_database_url, clock):
    """A database of the test's own: partitions are not rolled back."""
    settings = settings_for(fresh_database_url, "redis://nowhere.invalid").database
    with Database(settings, clock=clock) as database:
        yield database


@pytest.fixture
def partitions(own, clock):
    return PartitionManager(own, clock=clock)


@pytest.fixture
def stream(own):
    with own.transaction() as work:
        return make_stream(work)


@pytest.fixture
def visit(own, stream):
    """Store a visit that began at a moment."""

    def store(moment):
        with own.transaction() as work:
            work.viewer_sessions.add(
                ViewerSession(
                    started_at=moment, ended_at=moment, stream_id=stream.id, viewer_hash=b"\1"
                )
            )

    return store


def status_of(partitions, table="viewer_sessions"):
    return next(status for status in partitions.status() if table == status.table)


def test_partitions_are_made_ahead_once(partitions):
    made = partitions.ensure(days_ahead=2, months_ahead=1)

    assert [
        "viewer_sessions_p20251231",
        "viewer_sessions_p20260101",
        "viewer_sessions_p20260102",
        "viewer_sessions_p20260103",
        "usage_logs_p202512",
        "usage_logs_p202601",
        "usage_logs_p202602",
        "mfa_attempts_p202512",
        "mfa_attempts_p202601",
        "mfa_attempts_p202602",
        "security_events_p202512",
        "security_events_p202601",
        "security_events_p202602",
    ] == made
    assert [] == partitions.ensure(days_ahead=2, months_ahead=1)
    assert ["viewer_sessions_p20260104"] == partitions.ensure(days_ahead=3, months_ahead=1)


def test_the_status_says_how_far_partitions_reach(partitions, clock):
    unprepared = status_of(partitions)
    assert (0, None, 0) == (
        unprepared.partitions,
        unprepared.covered_until,
        unprepared.default_rows,
    )
    assert "no partition for this day" in unprepared.warnings[0]

    partitions.ensure(days_ahead=2)
    prepared = status_of(partitions)
    assert (4, datetime(2026, 1, 4, tzinfo=UTC), ()) == (
        prepared.partitions,
        prepared.covered_until,
        prepared.warnings,
    )
    assert () == status_of(partitions, "usage_logs").warnings

    clock.advance(2 * DAY)
    assert "no partition for the next day" in status_of(partitions).warnings[0]


def test_rows_go_to_the_partition_of_their_day(own, partitions, visit):
    partitions.ensure()
    visit(EPOCH)

    assert 0 == status_of(partitions).default_rows
    assert 1 == count(own, "viewer_sessions_p20260101")


def test_rows_that_came_before_their_partition_move_into_it(own, partitions, visit, stream):
    for hours in (0, 1, 24, 47):
        visit(EPOCH + timedelta(hours=hours))
    stray = status_of(partitions)
    assert 4 == stray.default_rows
    assert any("holds 4 rows that no partition was ready for" in line for line in stray.warnings)

    partitions.ensure()

    assert (0, ()) == (status_of(partitions).default_rows, status_of(partitions).warnings)
    assert 2 == count(own, "viewer_sessions_p20260101")
    assert 1 == count(own, "viewer_sessions_p20260102")
    with own.read() as work:
        rows = work.viewer_sessions.list_by_stream(stream.id)
    assert 4 == len(rows)


def test_rows_of_days_long_gone_are_rescued_but_not_of_any_age(own, partitions, visit):
    visit(EPOCH - 30 * DAY)
    visit(EPOCH - 1000 * DAY)
    visit(EPOCH + 1000 * DAY)

    partitions.ensure()

    assert 1 == count(own, "viewer_sessions_p20251202")
    assert 2 == status_of(partitions).default_rows


def test_a_moved_row_is_deleted_with_its_stream_all_the_same(own, partitions, visit, stream):
    visit(EPOCH)
    partitions.ensure()
    with own.transaction() as work:
        work.streams.delete(work.streams.get_one(stream.id))

    assert 0 == count(own, "viewer_sessions")


def test_old_partitions_are_dropped_with_their_rows(own, partitions, visit, clock):
    partitions.ensure()
    visit(EPOCH - DAY)
    visit(EPOCH)
    clock.advance(3 * DAY)

    assert ["viewer_sessions_p20251231"] == partitions.drop_before(date(2026, 1, 1))
    assert 1 == count(own, "viewer_sessions")
    assert [] == partitions.drop_before(date(2026, 1, 1))


def test_a_partition_that_reaches_into_what_is_kept_stays(partitions, clock):
    partitions.ensure()
    clock.advance(60 * DAY)

    assert ["usage_logs_p202512"] == partitions.drop_before(date(2026, 1, 31), table="usage_logs")


def test_the_default_partition_is_never_dropped(own, partitions, clock):
    partitions.ensure()
    clock.advance(1000 * DAY)
    partitions.drop_before(date(2028, 1, 1))

    assert 0 == count(own, "viewer_sessions_default")


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda p: p.drop_before(date(2026, 1, 2)), "still to come"),
        (lambda p: p.drop_before(date(2025, 1, 1), table="users"), "not users"),
        (lambda p: p.ensure(days_ahead=-1), "made 0 to 1000"),
        (lambda p: p.ensure(months_ahead=1001), "0 to 1000"),
    ],
)
def test_what_makes_no_sense_is_refused(partitions, call, reason):
    with pytest.raises(ValidationError, match=reason):
        call(partitions)


@pytest.mark.slow
def test_any_number_of_nodes_may_ensure_at_once(partitions, visit):
    for hour in range(30):
        visit(EPOCH + timedelta(hours=hour))
    barrier = threading.Barrier(6)

    def ensure(_):
        barrier.wait(timeout=30)
        return partitions.ensure()

    with ThreadPoolExecutor(6) as pool:
        made = [name for names in pool.map(ensure, range(6)) for name in names]

    assert len(set(made)) == len(made)
    assert 24 == len(made)
    assert 0 == status_of(partitions).default_rows


@pytest.mark.slow
def test_writers_lose_nothing_while_partitions_are_made(own, partitions, visit):
    enough = threading.Event()

    def write():
        written = 0
        while not enough.is_set():
            visit(EPOCH)
            written += 1
        return written

    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(write) for _ in range(2)]
        try:
            wait_for(lambda: 10 < status_of(partitions).default_rows)
            partitions.ensure()
            wait_for(lambda: 200 < count(own, "viewer_sessions"))
        finally:
            enough.set()
        written = sum(writer.result() for writer in writers)

    assert written == count(own, "viewer_sessions_p20260101") == count(own, "viewer_sessions")


def wait_for(holds):
    give_up_at = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.005)


@pytest.mark.slow
def test_a_table_that_stays_locked_is_an_error_to_try_again_after(
    partitions, fresh_database_url, own
):
    with psycopg.connect(fresh_database_url) as connection:
        connection.execute("SELECT count(*) FROM viewer_sessions")

        with pytest.raises(StorageTimeoutError) as refused:
            partitions.ensure(days_ahead=0)
        assert refused.value.retryable
    assert 2 == len(partitions.ensure(days_ahead=0, months_ahead=0)[:2])


def test_partitions_are_no_change_of_the_schema(partitions, fresh_database_url):
    partitions.ensure()
    engine = create_engine(fresh_database_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_name": schema.is_compared})
        assert [] == compare_metadata(context, Base.metadata)
    engine.dispose()


def count(database, table):
    with database.direct() as connection:
        (rows,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return rows
