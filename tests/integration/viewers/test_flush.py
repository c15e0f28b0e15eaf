from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest

from rootstream_db.models import EndReason, StreamSession
from rootstream_db.services.viewers import FlushResult, Heartbeat
from rootstream_db.testing import EPOCH
from tests.factories import make_user


@pytest.fixture
def go_live(rootstream):
    """Open a stream session, as a lease would."""

    def start(stream_id: int, *, after: float = 0):
        with rootstream.transaction() as work:
            at = EPOCH + timedelta(seconds=after)
            session = work.stream_sessions.add(StreamSession(stream_id=stream_id, started_at=at))
            work.stream_live.get_one(stream_id).stream_session_id = session.id
            return session.id

    return start


@pytest.fixture
def end(rootstream):
    def stop(stream_id: int) -> None:
        with rootstream.transaction() as work:
            live = work.stream_live.get_one(stream_id)
            session = work.stream_sessions.get_one(live.stream_session_id)
            session.ended_at, session.end_reason = work.now, EndReason.STOPPED
            live.stream_session_id, live.viewer_count = None, 0

    return stop


@pytest.fixture
def session(rootstream):
    def read(session_id: int):
        with rootstream.transaction() as work:
            return work.stream_sessions.get_one(session_id)

    return read


def test_a_flush_adds_what_was_told_to_the_totals(viewers, stream_id, totals):
    viewers.heartbeat(stream_id, viewer="ann", watch_seconds=3, bytes_out=100)
    viewers.heartbeat(stream_id, viewer="bob", watch_seconds=4, bytes_out=50)
    viewers.heartbeat(stream_id, viewer="ann", watch_seconds=5)
    result = viewers.flush()
    assert (3, 2, 12, 150) == totals(stream_id)
    assert (1, 3, 2, 12, 150) == (
        result.streams,
        result.heartbeats,
        result.views,
        result.watch_seconds,
        result.bytes_out,
    )
    assert 1 == len(result.flush_ids)
    assert 0 < result.seconds < 10


def test_flushing_again_adds_nothing(viewers, stream_id, totals):
    viewers.heartbeat(stream_id, viewer="ann")
    viewers.flush()
    result = viewers.flush()
    assert FlushResult(seconds=result.seconds) == result
    assert (1, 1, 0, 0) == totals(stream_id)


def test_later_flushes_add_to_earlier_ones(viewers, stream_id, totals):
    for _ in range(3):
        viewers.heartbeat(stream_id, viewer="ann", watch_seconds=1)
        viewers.flush()
    assert (3, 1, 3, 0) == totals(stream_id)


def test_without_a_report_the_time_between_heartbeats_is_watched(viewers, stream_id, clock, totals):
    for _ in range(4):
        viewers.heartbeat(stream_id, viewer="ann")
        clock.advance(1.4)
    viewers.flush()
    # 4.2 seconds passed between them; the rest of a second is kept for the next heartbeat.
    assert (4, 1, 4, 0) == totals(stream_id)
    clock.advance(0.2)
    assert viewers.leave(stream_id, viewer="ann")
    viewers.flush()
    # ... and up to the goodbye: 5.8 seconds in all.
    assert (4, 1, 5, 0) == totals(stream_id)


def test_with_reports_a_goodbye_adds_nothing(viewers, stream_id, clock, totals):
    viewers.heartbeat(stream_id, viewer="ann", watch_seconds=2)
    clock.advance(30)
    viewers.leave(stream_id, viewer="ann")
    viewers.flush()
    assert (1, 1, 2, 0) == totals(stream_id)


def test_a_player_that_stops_reporting_is_measured_from_its_last_report(
    viewers, stream_id, clock, totals
):
    viewers.heartbeat(stream_id, viewer="ann", watch_seconds=2)
    clock.advance(10)
    viewers.heartbeat(stream_id, viewer="ann")
    viewers.flush()
    assert (2, 1, 12, 0) == totals(stream_id)


def test_silence_is_not_watched_and_what_follows_is_another_visit(
    viewers, stream_id, clock, totals, visits
):
    viewers.heartbeat(stream_id, viewer="ann")
    clock.advance(10)
    viewers.heartbeat(stream_id, viewer="ann")
    clock.advance(46)
    viewers.heartbeat(stream_id, viewer="ann")
    viewers.flush()
    assert (3, 2, 10, 0) == totals(stream_id)
    (first,) = visits(stream_id)
    assert (EPOCH, EPOCH + timedelta(seconds=10), 10) == (
        first.started_at,
        first.ended_at,
        first.watch_seconds,
    )


def test_a_visit_that_ended_is_a_row(viewers, stream_id, clock, visits, rootstream):
    with rootstream.transaction() as work:
        user_id = make_user(work).id
    viewers.heartbeat(stream_id, viewer="ann", bytes_out=7)
    clock.advance(20)
    viewers.heartbeat(stream_id, viewer="ann", user_id=user_id, bytes_out=8)
    clock.advance(5)
    viewers.leave(stream_id, viewer="ann")
    assert 1 == viewers.flush().visits
    (visit,) = visits(stream_id)
    assert (25, 15, user_id) == (visit.watch_seconds, visit.bytes_out, visit.user_id)
    assert timedelta(seconds=25) == visit.ended_at - visit.started_at
    with rootstream.transaction() as work:
        assert [visit.id] == [one.id for one in work.viewer_sessions.list_by_user(user_id)]


def test_visits_are_listed_latest_first_and_from_a_moment_back(
    viewers, stream_id, clock, rootstream
):
    for _ in range(4):
        viewers.heartbeat(stream_id, viewer="ann", user_id=None)
        clock.advance(60)
    viewers.flush()
    with rootstream.transaction() as work:
        before = EPOCH + timedelta(seconds=150)
        found = work.viewer_sessions.list_by_stream(stream_id, before=before, limit=2)
    starts = [(one.started_at - EPOCH).total_seconds() for one in found]
    assert [120, 60] == starts


def test_a_viewer_has_one_pseudonym_a_day_and_another_the_next(viewers, stream_id, clock, visits):
    for pause in (1, 24 * 3600, 0):
        viewers.heartbeat(stream_id, viewer="203.0.113.7")
        viewers.leave(stream_id, viewer="203.0.113.7")
        clock.advance(pause)
    viewers.flush()
    tomorrow, today, again = (visit.viewer_hash for visit in visits(stream_id))
    assert today == again
    assert tomorrow != today
    assert 32 == len(today)


def test_increments_belong_to_the_open_session(viewers, stream_id, go_live, session, clock):
    first = go_live(stream_id)
    viewers.heartbeat(stream_id, viewer="ann", watch_seconds=3, bytes_out=9)
    viewers.flush()
    found = session(first)
    assert (1, 3, 9) == (found.views, found.watch_seconds, found.bytes_out)


def test_increments_of_a_stream_off_the_air_belong_to_its_last_session(
    viewers, stream_id, go_live, end, session, clock
):
    go_live(stream_id)
    clock.advance(100)
    end(stream_id)
    last = go_live(stream_id, after=100)
    viewers.heartbeat(stream_id, viewer="ann", watch_seconds=3)
    clock.advance(5)
    end(stream_id)
    viewers.flush()
    assert (1, 3) == (session(last).views, session(last).watch_seconds)


def test_a_visit_belongs_to_the_broadcast_it_ended_in(
    viewers, stream_id, go_live, end, clock, visits
):
    first = go_live(stream_id)
    viewers.heartbeat(stream_id, viewer="ann")
    clock.advance(10)
    viewers.leave(stream_id, viewer="ann")
    end(stream_id)
    clock.advance(10)
    second = go_live(stream_id, after=20)
    viewers.heartbeat(stream_id, viewer="ann")
    viewers.leave(stream_id, viewer="ann")
    viewers.flush()
    assert [second, first] == [visit.stream_session_id for visit in visits(stream_id)]


def test_the_peak_between_two_flushes_is_not_missed(viewers, stream_id, go_live, session, clock):
    session_id = go_live(stream_id)
    viewers.heartbeat_many(Heartbeat(stream_id, f"v{n}") for n in range(5))
    clock.advance(10)
    for number in range(4):
        viewers.leave(stream_id, viewer=f"v{number}")
    viewers.flush()
    assert (5, EPOCH) == (session(session_id).peak_viewers, session(session_id).peak_at)
    clock.advance(5)
    viewers.heartbeat(stream_id, viewer="another")
    viewers.flush()
    assert (5, EPOCH) == (session(session_id).peak_viewers, session(session_id).peak_at)


def test_silent_viewers_do_not_count_towards_a_peak(viewers, stream_id, go_live, session, clock):
    session_id = go_live(stream_id)
    for number in range(5):
        viewers.heartbeat(stream_id, viewer=f"v{number}")
        clock.advance(46)
    viewers.flush()
    assert 1 == session(session_id).peak_viewers


def test_the_live_state_shows_the_number_of_viewers_while_on_the_air(
    viewers, stream_id, go_live, end, rootstream, clock
):
    def shown():
        with rootstream.transaction() as work:
            return work.stream_live.get_one(stream_id).viewer_count

    viewers.heartbeat(stream_id, viewer="early")
    viewers.flush()
    assert 0 == shown()
    go_live(stream_id)
    viewers.heartbeat(stream_id, viewer="ann")
    viewers.flush()
    assert 2 == shown()
    clock.advance(46)
    viewers.flush()
    assert 0 == shown()
    end(stream_id)
    viewers.heartbeat(stream_id, viewer="late")
    viewers.flush()
    assert 0 == shown()


def test_unknown_streams_are_dropped_and_said(viewers, stream_id, totals, rootstream, make_streams):
    gone = make_streams(1)[0]
    viewers.heartbeat_many([Heartbeat(stream_id, "ann"), Heartbeat(gone, "ann")])
    viewers.heartbeat(2**62, viewer="ann")
    viewers.leave(gone, viewer="ann")
    with rootstream.transaction() as work:
        work.streams.delete(work.streams.get_one(gone))
    result = viewers.flush()
    assert (1, 2, 1, 0) == (
        result.streams,
        result.unknown_streams,
        result.heartbeats,
        result.visits,
    )
    assert (1, 1, 0, 0) == totals(stream_id)


def test_a_flush_of_unknown_streams_alone_is_done_with(viewers):
    viewers.heartbeat(2**62, viewer="ann")
    assert 1 == viewers.flush().unknown_streams
    assert () == viewers.flush().flush_ids


def test_a_visit_of_a_deleted_account_stays_without_it(viewers, stream_id, visits, rootstream):
    with rootstream.transaction() as work:
        user = make_user(work)
    viewers.heartbeat(stream_id, viewer="ann", user_id=user.id)
    viewers.leave(stream_id, viewer="ann")
    with rootstream.transaction() as work:
        work.users.delete(work.users.get_one(user.id))
    viewers.flush()
    (visit,) = visits(stream_id)
    assert visit.user_id is None


def test_a_stream_without_a_totals_row_gets_one(viewers, stream_id, totals, rootstream):
    with rootstream.transaction() as work:
        work.stream_totals.delete(work.stream_totals.get_one(stream_id))
    viewers.heartbeat(stream_id, viewer="ann")
    viewers.flush()
    assert (1, 1, 0, 0) == totals(stream_id)


def test_numbers_beyond_what_floats_hold_are_added_exactly(viewers, stream_id, totals):
    most = 2**43
    beats = [Heartbeat(stream_id, f"v{n}", bytes_out=most) for n in range(2100)]
    viewers.heartbeat_many([*beats, Heartbeat(stream_id, "one more", bytes_out=1)])
    viewers.flush()
    assert 2100 * most + 1 == totals(stream_id)[3] > 2**53


def test_a_stream_cannot_be_deleted_between_the_check_and_the_sum(rootstream, stream_id):
    with rootstream.transaction() as work:
        assert {stream_id} == work.counter_flushes.lock_streams([stream_id, 2**62])
        with (
            rootstream.database.direct() as other,
            pytest.raises(psycopg.errors.LockNotAvailable),
        ):
            other.execute("SELECT FROM streams WHERE id = %s FOR UPDATE NOWAIT", [stream_id])
