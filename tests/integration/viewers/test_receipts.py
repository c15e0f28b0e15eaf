"""Receipts: how a flush that was interrupted is recognised and finished."""

from __future__ import annotations

import logging
from datetime import timedelta

from rootstream_db.cache import keys
from rootstream_db.models import CounterFlush
from rootstream_db.services.viewers import Heartbeat
from tests.fixtures.doom import doomed


def test_each_batch_leaves_a_receipt(small_batches, make_streams, rootstream):
    streams = make_streams(5)
    small_batches.heartbeat_many(Heartbeat(one, "ann") for one in streams)
    result = small_batches.flush()
    assert 5 == result.streams
    with rootstream.transaction() as work:
        receipts = work.session.query(CounterFlush).all()
        assert [1, 2, 2] == sorted(receipt.streams for receipt in receipts)
        assert 5 == sum(receipt.increments for receipt in receipts)
        assert work.counter_flushes.get(result.flush_ids[0]) is not None


def test_a_flush_that_died_is_finished_by_the_next(small_batches, make_streams, totals):
    streams = make_streams(5)
    small_batches.heartbeat_many(Heartbeat(one, "ann") for one in streams)
    step = 1
    while not any(totals(one)[0] for one in streams):
        assert doomed(small_batches.flush, at=step)
        step += 1
    result = small_batches.flush()
    assert 0 < result.repeated
    assert [(1, 1, 0, 0)] * 5 == [totals(one) for one in streams]
    assert 0 == small_batches.flush().repeated


def test_a_flush_begun_with_another_batch_size_is_split_as_it_began(
    small_batches, viewers, make_streams, totals
):
    """A process with other settings must find the receipts that the dead one left."""
    streams = make_streams(5)
    small_batches.heartbeat_many(Heartbeat(one, "ann") for one in streams)
    step = 1
    while not any(totals(one)[0] for one in streams):
        doomed(small_batches.flush, at=step)
        step += 1
    assert 0 < viewers.flush().repeated
    assert [(1, 1, 0, 0)] * 5 == [totals(one) for one in streams]


def test_a_redis_that_went_back_in_time_doubles_nothing(
    viewers, stream_id, totals, rootstream, caplog
):
    """A power cut or a failover may bring back increments that PostgreSQL holds."""
    client = rootstream.cache.client
    delta = rootstream.cache.key(keys.VIEWER_DELTA)
    viewers.heartbeat(stream_id, viewer="ann", bytes_out=5)
    before = client.dump(delta)
    viewers.flush()
    client.restore(delta, 0, before)
    with caplog.at_level(logging.ERROR, "rootstream_db.viewers"):
        assert 1 == viewers.flush().repeated
    assert "Redis went back to before flush" in caplog.text
    assert (1, 1, 0, 5) == totals(stream_id)
    viewers.heartbeat(stream_id, viewer="ann", bytes_out=5)
    viewers.flush()
    assert (2, 1, 0, 10) == totals(stream_id)


def test_an_ordinary_flush_reports_no_rewinding(viewers, stream_id, caplog):
    viewers.heartbeat(stream_id, viewer="ann")
    viewers.flush()
    assert "" == caplog.text


def test_old_receipts_are_deleted_and_young_ones_kept(viewers, stream_id, clock, rootstream):
    for pause in (8 * 24 * 3600, 3600):
        viewers.heartbeat(stream_id, viewer="ann")
        viewers.flush()
        clock.advance(pause)
    viewers.flush()
    assert 1 == viewers.delete_old_receipts()
    with rootstream.transaction() as work:
        assert work.session.query(CounterFlush).count()


def test_receipts_stay_while_a_flush_is_under_way(viewers, stream_id, clock):
    viewers.heartbeat(stream_id, viewer="ann")
    viewers.flush()
    viewers.heartbeat(stream_id, viewer="ann")
    step = 1
    while not viewers._presence.pending():
        doomed(viewers.flush, at=step)
        step += 1
    clock.advance(timedelta(days=30))
    assert 0 == viewers.delete_old_receipts()
