from __future__ import annotations

from datetime import timedelta

import pytest

from rootstream_db.cache.keys import LIVE_STATUS
from rootstream_db.services.streams import LiveState, LiveStatus
from rootstream_db.testing import EPOCH


@pytest.fixture
def cached(cache, stream):
    def read():
        return cache.get_json(cache.key(LIVE_STATUS, stream_id=stream.id))

    return read


def test_an_unknown_stream_has_no_status(streams):
    assert streams.live_status(0) is None


def test_a_stream_that_was_never_live_is_offline(streams, stream):
    status = streams.live_status(stream.id)

    assert LiveState.OFFLINE is status.state
    assert (None, None, 0) == (status.stream_session_id, status.started_at, status.epoch)


def test_the_status_follows_the_broadcast(streams, key, stream, clock):
    lease = streams.start(key, node="ingest-1")
    assert LiveState.LIVE is streams.live_status(stream.id).state
    streams.heartbeat(lease, bitrate_kbps=4500, fps=60, width=1920, height=1080)
    status = streams.live_status(stream.id)
    assert (4500, 60, 1920, 1080) == (status.bitrate_kbps, status.fps, status.width, status.height)
    assert ("ingest-1", EPOCH, 1) == (status.node, status.started_at, status.epoch)
    streams.disconnect(lease)
    assert LiveState.RECONNECTING is streams.live_status(stream.id).state
    lease = streams.start(key, node="ingest-2")
    assert LiveState.LIVE is streams.live_status(stream.id).state
    streams.stop(lease)
    assert LiveState.OFFLINE is streams.live_status(stream.id).state


def test_the_status_comes_from_the_cache_first(streams, stream, cached, cache):
    streams.live_status(stream.id)
    wrong = {**cached(), "viewer_count": 4711}
    cache.set_json(cache.key(LIVE_STATUS, stream_id=stream.id), wrong)

    assert 4711 == streams.live_status(stream.id).viewer_count


def test_a_cached_status_that_nobody_refreshes_ends_by_itself(streams, key, stream, clock, cached):
    streams.start(key, node="a")
    stored = cached()

    clock.advance(15)
    assert LiveState.RECONNECTING is streams.live_status(stream.id).state
    clock.advance(30)
    assert LiveState.OFFLINE is streams.live_status(stream.id).state
    assert stored == cached()


def test_without_redis_statuses_come_from_postgresql_and_nothing_fails(
    lonely_streams, database, owner, clock
):
    with database.transaction() as work:
        stream, key = lonely_streams.create(work, owner=owner, name="s")
    lease = lonely_streams.start(key, node="a")
    lonely_streams.heartbeat(lease, fps=30)

    assert 30 == lonely_streams.live_status(stream.id).fps
    lonely_streams.stop(lease)
    assert LiveState.OFFLINE is lonely_streams.live_status(stream.id).state
    assert 0 == database.after_commit_failures


def test_live_streams_are_listed_longest_first(database, streams, owner, clock):
    leases = []
    for number in range(4):
        with database.transaction() as work:
            _, key = streams.create(work, owner=owner, name=f"s{number}")
        leases.append(streams.start(key, node="a"))
        clock.advance(1)
    streams.stop(leases[0])
    streams.disconnect(leases[2])

    shown = [(status.stream_id, status.state) for status in streams.list_live()]
    assert [
        (leases[1].stream_id, LiveState.LIVE),
        (leases[2].stream_id, LiveState.RECONNECTING),
        (leases[3].stream_id, LiveState.LIVE),
    ] == shown
    clock.advance(timedelta(hours=1))
    assert [] == streams.list_live()


def test_subscribers_hear_every_change_once_and_no_heartbeat(
    streams, key, stream, bus, clock, eventually
):
    heard = []
    with bus.subscribe(f"stream.{stream.id}", lambda _, message: heard.append(message)):
        lease = streams.start(key, node="a")
        streams.heartbeat(lease)
        streams.disconnect(lease)
        streams.stop(lease)
        eventually(lambda: 3 == len(heard))

    assert ["StreamStarted", "StreamDisconnected", "StreamEnded"] == [m["type"] for m in heard]
    assert ["live", "reconnecting", "offline"] == [message["state"] for message in heard]


def test_a_rolled_back_change_is_not_announced(database, streams, key, stream, cached):
    streams.start(key, node="a")
    shown = cached()
    with pytest.raises(ZeroDivisionError), database.transaction() as work:
        streams.end(work, stream)
        raise ZeroDivisionError

    assert shown == cached()


def test_a_status_survives_the_way_through_json():
    status = LiveStatus(stream_id=1, as_of=EPOCH, lease_expires_at=EPOCH, fps=29.97)

    assert status == LiveStatus.from_dict(status.as_dict())
