from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from rootstream_db.database import Database
from rootstream_db.errors import (
    NotFoundError,
    PermissionDeniedError,
    StaleLeaseError,
    StreamAlreadyLiveError,
    ValidationError,
)
from rootstream_db.models import EndReason
from rootstream_db.security.tokens import new_token
from rootstream_db.services.streams import StreamManager
from rootstream_db.settings import DatabaseSettings, StreamSettings
from rootstream_db.testing import EPOCH

TTL = 15
GRACE = 30


class TestStart:
    def test_a_good_key_goes_live(self, streams, key, stream, live_row, session_of):
        lease = streams.start(
            key, node="ingest-1", connection_id="c7", protocol="srt", encoder="OBS\t31"
        )

        assert (stream.id, 1, False) == (lease.stream_id, lease.epoch, lease.resumed)
        assert "ingest-1/c7" == lease.owner
        assert EPOCH + timedelta(seconds=TTL) == lease.expires_at
        live, session = live_row(stream), session_of(lease)
        assert live.is_live
        assert lease.stream_session_id == live.stream_session_id
        assert ("ingest-1", "srt", "OBS 31") == (session.node, session.protocol, session.encoder)
        assert (EPOCH, None) == (session.started_at, session.ended_at)

    def test_a_second_publisher_is_refused_while_the_lease_holds(self, streams, key, clock):
        streams.start(key, node="a", connection_id="1")
        clock.advance(TTL - 0.001)

        with pytest.raises(StreamAlreadyLiveError, match="already live from a/1") as refused:
            streams.start(key, node="b")
        assert "a/1" == refused.value.owner

    def test_the_same_connection_asking_twice_gets_the_same_lease(
        self, streams, key, history, stream
    ):
        first = streams.start(key, node="a", connection_id="1")
        before = len(history(stream))

        assert first == streams.start(key, node="a", connection_id="1")
        assert before == len(history(stream))

    def test_connections_without_an_id_are_never_taken_for_one_another(self, streams, key):
        streams.start(key, node="a")

        with pytest.raises(StreamAlreadyLiveError):
            streams.start(key, node="a")

    @pytest.mark.parametrize(
        "garbage", ["", "hello", "rsk_" + "a" * 49, "rsv_" + "0" * 49, "\0" * 53, "ключ", None, 7]
    )
    def test_garbage_is_refused_without_asking_the_database(self, events, cache, bus, garbage):
        settings = DatabaseSettings(url="postgresql://nobody@nowhere.invalid/none")
        with Database(settings) as unreachable:
            streams = StreamManager(
                unreachable, events, cache=cache, bus=bus, settings=StreamSettings()
            )
            with pytest.raises(PermissionDeniedError, match=r"^unknown stream key$"):
                streams.start(garbage, node="a")

    def test_a_key_that_was_never_issued_is_refused_in_the_same_words(self, streams):
        with pytest.raises(PermissionDeniedError, match=r"^unknown stream key$"):
            streams.start(new_token("rsk"), node="a")

    def test_a_revoked_key_is_refused(self, streams, key, stream, database):
        with database.transaction() as work:
            streams.revoke_key(work, work.stream_keys.list_by_stream(stream.id)[0])

        with pytest.raises(PermissionDeniedError, match="was revoked"):
            streams.start(key, node="a")

    def test_a_key_is_refused_before_and_after_its_time(self, streams, stream, database, clock):
        begins, ends = EPOCH + timedelta(hours=1), EPOCH + timedelta(hours=2)
        with database.transaction() as work:
            _, key = streams.issue_key(work, stream, not_before=begins, expires_at=ends)

        with pytest.raises(PermissionDeniedError, match="not valid yet"):
            streams.start(key, node="a")
        clock.advance(timedelta(hours=1))
        streams.stop(streams.start(key, node="a"))
        clock.advance(timedelta(hours=1))
        with pytest.raises(PermissionDeniedError, match="has expired"):
            streams.start(key, node="a")

    def test_a_deactivated_owner_may_not_publish(self, streams, key, owner, database, clock):
        with database.transaction() as work:
            work.users.get_one(owner.id).deactivate(clock())

        with pytest.raises(PermissionDeniedError, match="owner is deactivated"):
            streams.start(key, node="a")

    def test_the_use_of_a_key_is_recorded_and_a_refused_one_is_not(
        self, streams, key, stream, database, clock
    ):
        streams.start(key, node="a")
        clock.advance(1)
        with pytest.raises(StreamAlreadyLiveError):
            streams.start(key, node="b")

        with database.read() as work:
            (stored,) = work.stream_keys.list_by_stream(stream.id)
        assert EPOCH == stored.last_used_at

    @pytest.mark.parametrize(
        ("wrong", "field"),
        [
            ({"node": ""}, "node"),
            ({"node": "a" * 201}, "node"),
            ({"node": "a\0b"}, "node"),
            ({"node": "a", "connection_id": ""}, "connection_id"),
            ({"node": "a" * 150, "connection_id": "b" * 150}, "connection_id"),
            ({"node": "a", "protocol": "x" * 21}, "protocol"),
            ({"node": "a", "ip_address": "nowhere"}, "ip_address"),
        ],
    )
    def test_a_connection_described_wrongly_is_refused(self, streams, key, wrong, field):
        with pytest.raises(ValidationError) as refused:
            streams.start(key, **wrong)
        assert field == refused.value.field

    def test_an_encoder_never_fails_a_publisher(self, streams, key, session_of):
        lease = streams.start(key, node="a", encoder="\0\x1b[31m" + "x" * 10_000)

        assert 200 >= len(session_of(lease).encoder)
        assert session_of(lease).encoder.startswith("[31mxxx")


class TestHeartbeat:
    def test_a_heartbeat_renews_the_lease_and_records_what_it_saw(
        self, streams, key, stream, live_row, clock
    ):
        lease = streams.start(key, node="a")
        clock.advance(10)

        renewed = streams.heartbeat(
            lease, bitrate_kbps=4500, fps=59.94, width=1920, height=1080, bytes_in=1000
        )

        assert EPOCH + timedelta(seconds=10 + TTL) == renewed.expires_at
        assert replace(lease, expires_at=renewed.expires_at) == renewed
        live = live_row(stream)
        assert (4500, 59.94, 1920, 1080) == (live.bitrate_kbps, live.fps, live.width, live.height)
        assert (1000, clock()) == (live.bytes_in, live.alive_at)
        assert renewed.expires_at + timedelta(seconds=GRACE) == live.grace_until

    def test_what_a_heartbeat_leaves_out_stays(self, streams, key, stream, live_row):
        lease = streams.start(key, node="a")
        streams.heartbeat(lease, bitrate_kbps=4500, fps=30)
        streams.heartbeat(lease, fps=25, bitrate_kbps=None)

        assert (4500, 25) == (live_row(stream).bitrate_kbps, live_row(stream).fps)

    def test_heartbeats_out_of_order_never_take_bytes_back(self, streams, key, stream, live_row):
        lease = streams.start(key, node="a")
        streams.heartbeat(lease, bytes_in=2000)
        streams.heartbeat(lease, bytes_in=1000)

        assert 2000 == live_row(stream).bytes_in

    def test_heartbeats_keep_a_stream_live_for_ever(self, streams, key, stream, clock):
        lease = streams.start(key, node="a")
        for _ in range(20):
            clock.advance(TTL - 1)
            lease = streams.heartbeat(lease)
            assert (0, 0) == (streams.reap().entered_grace, streams.reap().ended)

        assert streams.live_status(stream.id).is_live

    def test_a_renewal_does_not_wait_for_the_disk_and_a_start_does(
        self, streams, key, database, clock
    ):
        waits = text("SELECT current_setting('synchronous_commit')")
        lease = streams.start(key, node="a")
        with database.transaction() as work:
            work.session.execute(text("SET LOCAL synchronous_commit = on"))
            assert "on" == work.session.scalar(waits)
            terms = {"now": clock(), "expires_at": lease.expires_at}
            work.stream_live.renew(lease.stream_id, epoch=0, seen={}, **terms)
            work.stream_live.renew(lease.stream_id, epoch=lease.epoch, seen={}, **terms)
            assert "off" == work.session.scalar(waits)

    def test_heartbeats_leave_no_events(self, streams, key, stream, history):
        lease = streams.start(key, node="a")
        before = len(history(stream))
        streams.heartbeat(lease)

        assert before == len(history(stream))

    @pytest.mark.parametrize("reaped", [False, True])
    def test_a_lapsed_lease_is_renewed_by_its_holder_within_the_grace(
        self, streams, key, stream, clock, live_row, session_of, reaped
    ):
        lease = streams.start(key, node="a")
        clock.advance(TTL + GRACE - 1)
        if reaped:
            assert 1 == streams.reap().entered_grace
            assert not live_row(stream).is_live

        renewed = streams.heartbeat(lease, bytes_in=77, fps=24)

        assert clock() + timedelta(seconds=TTL) == renewed.expires_at
        assert 1 == renewed.epoch
        assert live_row(stream).is_live
        assert (77, 24, clock()) == (
            live_row(stream).bytes_in,
            live_row(stream).fps,
            live_row(stream).alive_at,
        )
        assert 0 == session_of(renewed).reconnects

    @pytest.mark.parametrize("reaped", [False, True])
    def test_an_expired_lease_is_one_clear_line_after_the_grace(self, streams, key, clock, reaped):
        lease = streams.start(key, node="a")
        clock.advance(TTL + GRACE)
        if reaped:
            streams.reap()

        with pytest.raises(StaleLeaseError) as refused:
            streams.heartbeat(lease)
        ended = "the stream session has ended"
        expired = "it expired, its grace ended at 2026-01-01T12:00:45+00:00"
        line = f"the lease on stream {lease.stream_id} (epoch 1) no longer holds: "
        assert line + (ended if reaped else expired) == str(refused.value)

    @pytest.mark.parametrize(
        ("seen", "field"),
        [
            ({"bytes_in": -1}, "bytes_in"),
            ({"bytes_in": 2**63}, "bytes_in"),
            ({"bytes_in": 1.5}, "bytes_in"),
            ({"width": 2**15}, "width"),
            ({"height": True}, "height"),
            ({"fps": float("nan")}, "fps"),
            ({"fps": float("inf")}, "fps"),
            ({"bitrate_kbps": "fast"}, "bitrate_kbps"),
        ],
    )
    def test_a_measure_that_cannot_be_is_refused(self, streams, key, seen, field):
        lease = streams.start(key, node="a")

        with pytest.raises(ValidationError) as refused:
            streams.heartbeat(lease, **seen)
        assert field == refused.value.field


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


class TestFindLease:
    def test_a_caller_that_remembers_nothing_finds_its_lease(self, streams, key, clock):
        lease = streams.start(key, node="a", connection_id="1")
        found = streams.find_lease(key, node="a", connection_id="1")
        assert lease == found

        clock.advance(TTL)
        assert streams.heartbeat(found) == streams.find_lease(key, node="a", connection_id="1")

    def test_nobody_finds_a_lease_that_is_not_theirs_or_over(self, streams, key, clock):
        streams.start(key, node="a", connection_id="1")

        assert streams.find_lease(key, node="a", connection_id="2") is None
        assert streams.find_lease("garbage", node="a", connection_id="1") is None
        assert streams.find_lease(new_token("rsk"), node="a", connection_id="1") is None
        clock.advance(TTL + GRACE)
        assert streams.find_lease(key, node="a", connection_id="1") is None
