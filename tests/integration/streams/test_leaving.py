from __future__ import annotations

from datetime import timedelta

import pytest

from rootstream_db.errors import (
    NotFoundError,
    PermissionDeniedError,
    StaleLeaseError,
)
from rootstream_db.models import EndReason
from rootstream_db.testing import EPOCH

TTL = 15
GRACE = 30


class TestResume:
    @pytest.mark.parametrize("reaped", [False, True])
    def test_a_reconnect_within_the_grace_resumes_the_same_session(
        self, streams, key, clock, session_of, reaped
    ):
        first = streams.start(key, node="a", encoder="OBS")
        clock.advance(TTL + GRACE - 1)
        if reaped:
            streams.reap()

        second = streams.start(key, node="b")

        assert second.resumed
        assert first.stream_session_id == second.stream_session_id
        assert 2 == second.epoch
        session = session_of(second)
        assert (1, "b", "OBS") == (session.reconnects, session.node, session.encoder)

    def test_any_valid_key_of_the_stream_resumes(self, streams, key, stream, database):
        with database.transaction() as work:
            _, other = streams.issue_key(work, stream, label="backup encoder")
        first = streams.start(key, node="a")
        streams.disconnect(first)

        assert first.stream_session_id == streams.start(other, node="b").stream_session_id

    def test_after_a_resumption_the_first_publisher_is_refused_everything(
        self, streams, key, clock, stream, live_row
    ):
        stale = streams.start(key, node="a")
        clock.advance(TTL)
        current = streams.start(key, node="b")

        for call in (streams.heartbeat, streams.disconnect, streams.stop):
            with pytest.raises(StaleLeaseError, match="epoch 2 took over") as refused:
                call(stale, bytes_in=10**9)
            assert (1, 2) == (refused.value.epoch, refused.value.current_epoch)
        assert (current.owner, 0) == (live_row(stream).lease_owner, live_row(stream).bytes_in)

    def test_after_the_grace_a_start_supersedes_the_forgotten_session(
        self, streams, key, clock, session_of
    ):
        first = streams.start(key, node="a")
        streams.heartbeat(first, bytes_in=500)
        clock.advance(TTL + GRACE)

        second = streams.start(key, node="b")

        assert not second.resumed
        assert (2, True) == (second.epoch, second.stream_session_id != first.stream_session_id)
        forgotten = session_of(first)
        assert EndReason.SUPERSEDED is forgotten.end_reason
        assert (EPOCH, 500) == (forgotten.ended_at, forgotten.bytes_in)

    def test_the_bytes_of_all_connections_add_up(self, streams, key, session_of, clock):
        lease = streams.start(key, node="a")
        streams.heartbeat(lease, bytes_in=100)
        streams.disconnect(lease, bytes_in=150)
        lease = streams.start(key, node="a")
        streams.heartbeat(lease, bytes_in=40)
        clock.advance(TTL)
        lease = streams.start(key, node="a")
        streams.heartbeat(lease, bytes_in=5)

        streams.stop(lease, bytes_in=7)

        assert 150 + 40 + 7 == session_of(lease).bytes_in
        assert 2 == session_of(lease).reconnects


class TestDisconnect:
    def test_the_session_waits_and_nobody_is_live(self, streams, key, stream, live_row, clock):
        lease = streams.start(key, node="a")
        clock.advance(5)
        streams.disconnect(lease)

        live = live_row(stream)
        assert (False, None, None) == (live.is_live, live.lease_owner, live.lease_expires_at)
        assert clock() + timedelta(seconds=GRACE) == live.grace_until
        assert lease.stream_session_id == live.stream_session_id

    def test_a_late_heartbeat_does_not_bring_a_disconnected_publisher_back(self, streams, key):
        lease = streams.start(key, node="a")
        streams.disconnect(lease)

        with pytest.raises(StaleLeaseError, match="it disconnected; start again to resume"):
            streams.heartbeat(lease)

    def test_a_second_disconnect_does_not_prolong_the_grace(
        self, streams, key, stream, live_row, clock
    ):
        lease = streams.start(key, node="a")
        streams.disconnect(lease)
        until = live_row(stream).grace_until
        clock.advance(10)
        streams.disconnect(lease)

        assert until == live_row(stream).grace_until

    def test_without_a_grace_the_session_ends_at_once(
        self, streams, key, stream, database, session_of, clock
    ):
        with database.transaction() as work:
            streams.update(work, work.streams.get_one(stream.id), reconnect_grace_seconds=0)
        lease = streams.start(key, node="a")
        clock.advance(9)
        streams.disconnect(lease)

        session = session_of(lease)
        assert (EndReason.GRACE_EXPIRED, clock()) == (session.end_reason, session.ended_at)

    def test_a_stream_may_choose_its_own_grace(
        self, streams, key, stream, database, live_row, clock
    ):
        with database.transaction() as work:
            streams.update(work, work.streams.get_one(stream.id), reconnect_grace_seconds=600)
        streams.disconnect(streams.start(key, node="a"))

        assert clock() + timedelta(minutes=10) == live_row(stream).grace_until


class TestStop:
    def test_the_session_ends_with_its_totals(self, streams, key, clock, stream, live_row):
        lease = streams.start(key, node="a")
        streams.heartbeat(lease, bytes_in=900, width=1280, height=720)
        clock.advance(12)

        session = streams.stop(lease, bytes_in=1000)

        assert EndReason.STOPPED is session.end_reason
        assert (clock(), 1000) == (session.ended_at, session.bytes_in)
        assert (1280, 720) == (session.width, session.height)
        live = live_row(stream)
        assert (False, None, None) == (live.is_live, live.stream_session_id, live.grace_until)
        assert (1, 0, None) == (live.lease_epoch, live.bytes_in, live.fps)

    def test_a_second_stop_returns_the_ended_session(self, streams, key, clock):
        lease = streams.start(key, node="a")
        first = streams.stop(lease)
        clock.advance(60)

        assert first.ended_at == streams.stop(lease).ended_at

    def test_a_stop_while_waiting_ends_it_when_the_publisher_left(self, streams, key, clock):
        lease = streams.start(key, node="a")
        clock.advance(5)
        left = clock()
        streams.disconnect(lease)
        clock.advance(10)

        session = streams.stop(lease)

        assert (EndReason.STOPPED, left) == (session.end_reason, session.ended_at)

    def test_a_holder_that_stops_with_a_lapsed_lease_was_alive_until_then(
        self, streams, key, clock
    ):
        lease = streams.start(key, node="a")
        clock.advance(TTL + 5)

        session = streams.stop(lease)

        assert (EndReason.STOPPED, clock()) == (session.end_reason, session.ended_at)

    def test_a_stop_after_the_grace_does_not_claim_the_silence(self, streams, key, clock):
        lease = streams.start(key, node="a")
        clock.advance(TTL + GRACE + 100)

        session = streams.stop(lease)

        assert (EndReason.GRACE_EXPIRED, EPOCH) == (session.end_reason, session.ended_at)

    def test_a_clock_that_is_behind_never_ends_a_session_before_it_began(self, streams, key, clock):
        lease = streams.start(key, node="a")
        clock.advance(-120)

        assert EPOCH == streams.stop(lease).ended_at

    def test_the_next_broadcast_is_a_new_session_under_a_new_epoch(self, streams, key):
        first = streams.start(key, node="a")
        streams.stop(first)
        second = streams.start(key, node="a")

        assert (2, False) == (second.epoch, second.resumed)
        assert first.stream_session_id != second.stream_session_id
        with pytest.raises(StaleLeaseError, match="epoch 2 took over"):
            streams.stop(first)


class TestDeletedStream:
    def test_its_lease_and_its_key_are_void(self, streams, key, stream, database):
        lease = streams.start(key, node="a")
        with database.transaction() as work:
            streams.delete(work, work.streams.get_one(stream.id))

        for call in (streams.heartbeat, streams.disconnect, streams.stop):
            with pytest.raises(StaleLeaseError, match="the stream was deleted"):
                call(lease)
        with pytest.raises(PermissionDeniedError, match="unknown stream key"):
            streams.start(key, node="a")
        with pytest.raises(NotFoundError), database.transaction() as work:
            streams.end(work, stream)
