from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from rootstream_db.errors import (
    StaleLeaseError,
    ValidationError,
)
from rootstream_db.testing import EPOCH

TTL = 15
GRACE = 30


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

    def test_heartbeats_update_their_row_in_place(self, streams, key, database):
        in_place = text("SELECT pg_stat_get_xact_tuples_hot_updated('stream_live'::regclass)")
        lease = streams.start(key, node="a")
        with database.transaction() as work:
            before = work.session.scalar(in_place)
            for sent in range(20):
                streams.heartbeat(lease, bytes_in=sent)
            assert before + 20 == work.session.scalar(in_place)

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
