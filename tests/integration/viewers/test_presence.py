from __future__ import annotations

from datetime import timedelta

import pytest

from rootstream_db.cache import keys
from rootstream_db.errors import ValidationError
from rootstream_db.services.viewers import Heartbeat, presence

SILENCE = timedelta(seconds=45)


def test_a_viewer_is_present_from_the_first_heartbeat(viewers, stream_id):
    assert 0 == viewers.count(stream_id)
    assert viewers.heartbeat(stream_id, viewer="ann")
    assert 1 == viewers.count(stream_id)
    assert viewers.is_present(stream_id, viewer="ann")
    assert not viewers.is_present(stream_id, viewer="bob")


def test_many_heartbeats_of_one_viewer_are_one_viewer(viewers, stream_id):
    assert 3 == viewers.heartbeat_many([Heartbeat(stream_id, "ann")] * 3)
    assert 1 == viewers.count(stream_id)


def test_a_viewer_is_gone_when_it_leaves(viewers, stream_id):
    viewers.heartbeat(stream_id, viewer="ann")
    assert viewers.leave(stream_id, viewer="ann")
    assert 0 == viewers.count(stream_id)
    assert not viewers.leave(stream_id, viewer="ann")


def test_a_silent_viewer_is_gone_without_anybody_saying_so(viewers, stream_id, clock):
    viewers.heartbeat(stream_id, viewer="ann")
    clock.advance(SILENCE)
    assert 1 == viewers.count(stream_id)
    clock.advance(0.001)
    assert 0 == viewers.count(stream_id)
    assert not viewers.is_present(stream_id, viewer="ann")


def test_a_heartbeat_keeps_a_viewer_present(viewers, stream_id, clock):
    for _ in range(5):
        viewers.heartbeat(stream_id, viewer="ann")
        clock.advance(40)
    assert 1 == viewers.count(stream_id)


def test_streams_do_not_see_each_others_viewers(viewers, make_streams):
    one, other = make_streams(2)
    viewers.heartbeat_many([Heartbeat(one, "ann"), Heartbeat(one, "bob"), Heartbeat(other, "ann")])
    viewers.leave(other, viewer="ann")
    assert (2, 0) == (viewers.count(one), viewers.count(other))


def test_the_most_watched_streams_come_first(viewers, make_streams):
    few, most, none, one = make_streams(4)
    viewers.heartbeat_many(Heartbeat(most, f"v{n}") for n in range(3))
    viewers.heartbeat_many(Heartbeat(few, f"v{n}") for n in range(2))
    viewers.heartbeat(one, viewer="v")
    viewers.heartbeat(none, viewer="v")
    viewers.leave(none, viewer="v")
    assert [(most, 3), (few, 2), (one, 1)] == viewers.top()
    assert [(most, 3)] == viewers.top(1)
    assert [] == viewers.top(0)


def test_a_flush_takes_silent_viewers_off_the_board(viewers, stream_id, clock):
    viewers.heartbeat(stream_id, viewer="ann")
    clock.advance(30)
    viewers.heartbeat(stream_id, viewer="bob")
    clock.advance(30)
    viewers.flush()
    assert [(stream_id, 1)] == viewers.top()
    clock.advance(30)
    viewers.flush()
    assert [] == viewers.top()


def test_counts_are_those_of_the_last_flush(viewers, make_streams, rootstream):
    one, other, nobody = make_streams(3)
    viewers.heartbeat_many([Heartbeat(one, "ann"), Heartbeat(one, "bob"), Heartbeat(other, "ann")])
    assert {one: 0, other: 0} == viewers.counts([one, other])
    viewers.flush()
    assert {one: 2, other: 1, nobody: 0} == viewers.counts([one, other, one, nobody])
    assert {} == viewers.counts([])
    key = rootstream.cache.key(keys.VIEWER_COUNT, stream_id=one)
    assert timedelta(minutes=4) < rootstream.cache.ttl(key) <= timedelta(minutes=5)


def test_a_published_count_falls_to_zero_when_the_last_viewer_leaves(viewers, stream_id):
    viewers.heartbeat(stream_id, viewer="ann")
    viewers.flush()
    viewers.leave(stream_id, viewer="ann")
    viewers.flush()
    assert {stream_id: 0} == viewers.counts([stream_id])


def test_more_heartbeats_than_one_call_takes_are_all_counted(viewers, make_streams, totals):
    streams = make_streams(3)
    beats = [Heartbeat(streams[n % 3], f"viewer {n}") for n in range(presence.BATCH * 2 + 7)]
    assert len(beats) == viewers.heartbeat_many(iter(beats))
    assert len(beats) == sum(viewers.count(one) for one in streams)
    viewers.flush()
    assert len(beats) == sum(totals(one)[0] for one in streams)


def test_more_silent_viewers_than_one_sweep_takes_all_end(
    viewers, stream_id, clock, visits, monkeypatch
):
    monkeypatch.setattr(presence, "SWEPT_AT_ONCE", 3)
    viewers.heartbeat_many(Heartbeat(stream_id, f"viewer {n}") for n in range(10))
    clock.advance(46)
    assert 10 == viewers.flush().visits
    assert 10 == len(visits(stream_id))


def test_nothing_of_a_batch_with_a_bad_heartbeat_is_sent(viewers, stream_id):
    with pytest.raises(ValidationError, match="bytes_out"):
        viewers.heartbeat_many(
            [Heartbeat(stream_id, "ann"), Heartbeat(stream_id, "bob", None, 0, -1)]
        )
    assert 0 == viewers.count(stream_id)


def test_a_bad_goodbye_is_refused(viewers, stream_id):
    with pytest.raises(ValidationError, match="viewer"):
        viewers.leave(stream_id, viewer="")


def test_no_heartbeats_are_no_heartbeats(viewers):
    assert 0 == viewers.heartbeat_many([])


def test_a_viewer_may_be_called_anything(viewers, stream_id, clock, visits):
    names = ["a b", 'quo"te', "new\nline", "nul\x00", "ü€😀", "%s {1} *", "1 2 3", " "]
    viewers.heartbeat_many(Heartbeat(stream_id, name) for name in names)
    assert len(names) == viewers.count(stream_id)
    assert viewers.leave(stream_id, viewer="nul\x00")
    clock.advance(60)
    viewers.flush()
    assert len(names) == len({visit.viewer_hash for visit in visits(stream_id)})


def test_all_keys_of_viewers_are_in_one_slot_of_a_cluster(viewers, stream_id, rootstream):
    viewers.heartbeat(stream_id, viewer="ann")
    viewers.flush()
    stored = rootstream.cache.client.keys("*")
    assert stored
    assert all(key.startswith(b"rs:{viewers}:") for key in stored)


def test_a_clock_that_is_behind_shortens_nothing(viewers, stream_id, clock, totals):
    """Heartbeats come from several machines, whose clocks differ a little."""
    viewers.heartbeat(stream_id, viewer="ann")
    clock.advance(-2)
    viewers.heartbeat(stream_id, viewer="ann")
    viewers.leave(stream_id, viewer="ann")
    clock.advance(2)
    viewers.flush()
    assert (2, 1, 0, 0) == totals(stream_id)


def test_a_heartbeat_in_the_last_moment_goes_on_with_the_visit(viewers, stream_id, clock):
    viewers.heartbeat(stream_id, viewer="ann")
    clock.advance(SILENCE)
    viewers.heartbeat(stream_id, viewer="ann")
    assert 1 == viewers.flush().views
    clock.advance(SILENCE + timedelta(milliseconds=1))
    viewers.heartbeat(stream_id, viewer="ann")
    assert 1 == viewers.flush().views
