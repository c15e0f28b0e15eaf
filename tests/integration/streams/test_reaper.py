from __future__ import annotations

from datetime import timedelta

import pytest

from rootstream_db.models import EndReason
from rootstream_db.services.streams import ReapResult
from rootstream_db.services.streams.lease_keeper import REAP_BATCH
from rootstream_db.testing import EPOCH

TTL = 15
GRACE = 30


@pytest.fixture
def many(database, streams, owner):
    """More keys of more streams than one transaction of the reaper takes."""
    with database.transaction() as work:
        return [
            streams.create(work, owner=owner, name=f"s{number}")[1]
            for number in range(REAP_BATCH + 5)
        ]


def test_there_is_nothing_to_reap_while_leases_hold(streams, key, clock):
    streams.start(key, node="a")
    clock.advance(TTL - 0.001)

    assert ReapResult(0, 0) == streams.reap()


def test_a_dead_publisher_enters_the_grace_and_then_ends(
    streams, key, clock, stream, live_row, session_of
):
    lease = streams.start(key, node="a")
    clock.advance(4)
    streams.heartbeat(lease, bytes_in=123)
    last_heard = clock()
    clock.advance(TTL)

    assert ReapResult(1, 0) == streams.reap()
    assert ReapResult(0, 0) == streams.reap()
    assert not live_row(stream).is_live
    assert session_of(lease).ended_at is None

    clock.advance(GRACE)
    assert ReapResult(0, 1) == streams.reap()
    session = session_of(lease)
    assert EndReason.GRACE_EXPIRED is session.end_reason
    assert (last_heard, 123) == (session.ended_at, session.bytes_in)


def test_a_late_reaper_ends_at_once_what_is_long_over(
    streams, key, clock, session_of, history, stream
):
    lease = streams.start(key, node="a")
    clock.advance(timedelta(days=3))

    assert ReapResult(0, 1) == streams.reap()
    assert EPOCH == session_of(lease).ended_at
    assert "StreamEnded" == history(stream)[-1].event_type


def test_a_publisher_that_said_goodbye_ends_after_the_grace(streams, key, clock, session_of):
    lease = streams.start(key, node="a")
    clock.advance(3)
    streams.disconnect(lease)
    left = clock()
    clock.advance(GRACE - 0.001)
    assert ReapResult(0, 0) == streams.reap()
    clock.advance(0.001)

    assert ReapResult(0, 1) == streams.reap()
    assert left == session_of(lease).ended_at


def test_any_number_of_dead_streams_is_reaped_in_one_run(streams, many, clock):
    for key in many:
        streams.start(key, node="a")
    clock.advance(TTL)
    assert ReapResult(len(many), 0) == streams.reap()

    clock.advance(GRACE)
    assert ReapResult(0, len(many)) == streams.reap()
    assert [] == streams.list_live()


def test_the_events_of_a_broadcast_read_alike_with_and_without_a_reaper(
    database, streams, owner, clock, history
):
    stories = []
    for reaps in (True, False):
        with database.transaction() as work:
            stream, key = streams.create(work, owner=owner, name="s")
        streams.start(key, node="a")
        clock.advance(TTL)
        if reaps:
            streams.reap()
        streams.stop(streams.start(key, node="b"))
        stories.append([event.event_type for event in history(stream)])

    assert stories[0] == stories[1]
    assert [
        "StreamCreated",
        "StreamKeyIssued",
        "StreamStarted",
        "StreamDisconnected",
        "StreamResumed",
        "StreamEnded",
    ] == stories[0]


def test_the_clocks_skew_is_measured_against_the_databases(streams, clock, database):
    with database.read() as work:
        there = work.stream_live.database_time()
    clock.now = there + timedelta(minutes=5)

    assert abs(streams.clock_skew() - timedelta(minutes=5)) < timedelta(seconds=5)
