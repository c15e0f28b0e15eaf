from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootstream_db.errors import ValidationError
from rootstream_db.services.viewers.flush import receipt_id
from rootstream_db.services.viewers.presence import PendingFlush, batched
from rootstream_db.services.viewers.values import (
    Delta,
    Heartbeat,
    Visit,
    batches,
    milliseconds,
    moment,
    parse_deltas,
)
from rootstream_db.testing import EPOCH

FLUSH_ID = PendingFlush.parse(b"00000000-0000-4000-8000-000000000001/1000").flush_id


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"stream_id": 0}, "stream_id"),
        ({"stream_id": -1}, "stream_id"),
        ({"stream_id": 2**63}, "stream_id"),
        ({"viewer": ""}, "viewer"),
        ({"viewer": "x" * 201}, "viewer"),
        ({"viewer": "\ud800"}, "viewer"),
        ({"user_id": 0}, "user_id"),
        ({"user_id": 2**63}, "user_id"),
        ({"watch_seconds": -1}, "watch_seconds"),
        ({"watch_seconds": 86_401}, "watch_seconds"),
        ({"bytes_out": -1}, "bytes_out"),
        ({"bytes_out": 2**43 + 1}, "bytes_out"),
    ],
)
def test_a_heartbeat_that_cannot_be_counted_is_refused(change, field):
    with pytest.raises(ValidationError) as caught:
        Heartbeat(1, "ann")._replace(**change).check()
    assert field == caught.value.field


@pytest.mark.parametrize(
    "beat",
    [
        Heartbeat(1, "a"),
        Heartbeat(2**63 - 1, "ü" * 200, 2**63 - 1, 86_400, 2**43),
        Heartbeat(1, "\x00 \n", None, 0, 0),
    ],
)
def test_the_largest_and_the_oddest_heartbeats_are_taken(beat):
    beat.check()


def test_increments_are_read_by_stream():
    fields = {
        b"id": b"any text",
        b"7": struct.pack(">7d", 3, 1, 9, 0, 0, 0, 0),
        b"12": struct.pack(">7d", 1, 0, 0, 2**22, 5, 4, milliseconds(EPOCH)),
    }
    assert {
        7: Delta(heartbeats=3, views=1, watch_seconds=9),
        12: Delta(heartbeats=1, bytes_out=2**54 + 5, peak=4, peak_at=EPOCH),
    } == parse_deltas(fields)


def test_an_ended_visit_is_read_with_whatever_the_viewer_is_called():
    line = b"7 1767268800000 1767268810000 10 99 42 a viewer \xff\n"
    visit = Visit.parse(line)
    assert (7, b"a viewer \xff\n", 10, 99, 42) == (
        visit.stream_id,
        visit.viewer_bytes,
        visit.watch_seconds,
        visit.bytes_out,
        visit.user_id,
    )
    assert 10 == (visit.ended_at - visit.started_at).total_seconds()
    assert Visit.parse(b"7 1 2 3 4  ann").user_id is None


@given(st.integers(0, 2**42))
def test_times_come_back_to_the_millisecond(number):
    assert number == milliseconds(moment(number))


@given(st.sets(st.integers(1, 99)), st.integers(1, 9))
def test_batches_hold_every_stream_once_in_one_order_whatever_the_set_was(streams, size):
    parts = batches(streams, size)
    assert sorted(streams) == [one for part in parts for one in part]
    assert parts == batches(sorted(streams, reverse=True), size)
    assert all(len(part) <= size for part in parts)


@given(st.lists(st.integers()), st.integers(1, 9))
def test_batched_leaves_nothing_out(items, size):
    parts = list(batched(items, size))
    assert items == [one for part in parts for one in part]
    assert all(0 < len(part) <= size for part in parts)


def test_each_batch_has_a_receipt_of_its_own_and_the_first_the_flushs_id():
    receipts = [receipt_id(FLUSH_ID, index) for index in range(100)]
    assert FLUSH_ID == receipts[0]
    assert 100 == len(set(receipts))
    assert receipts == [receipt_id(FLUSH_ID, index) for index in range(100)]


def test_a_pending_flush_is_written_as_it_is_read():
    text = f"{FLUSH_ID}/1000"
    assert text == str(PendingFlush.parse(text.encode()))
