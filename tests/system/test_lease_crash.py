"""Publishers killed at any moment: nothing stays live past the lease and the grace."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from datetime import timedelta

import pytest

from rootstream_db.clock import utc_now
from rootstream_db.models import EndReason
from rootstream_db.rootstream import RootStream
from rootstream_db.services.streams import LiveState
from rootstream_db.settings import StreamSettings
from tests.factories import make_user

LEASE = timedelta(seconds=1)
GRACE = timedelta(seconds=1)
SLACK = timedelta(seconds=4)
"""What a busy machine may add to the reaper's own two turns."""
SHORT = {"ROOTSTREAM_STREAMS__LEASE_TTL": "1", "ROOTSTREAM_STREAMS__RECONNECT_GRACE": "1"}


@pytest.fixture
def rootstream(settings, clean_database_url):
    """The data layer on the real clock, with the shortest lease there is."""
    short = StreamSettings(lease_ttl=LEASE, reconnect_grace=GRACE)
    with RootStream(settings.model_copy(update={"streams": short})) as rootstream:
        yield rootstream


@pytest.mark.slow
def test_a_killed_publisher_is_reaped_within_the_lease_and_the_grace(rootstream, publisher):
    with rootstream.transaction() as work:
        stream, key = rootstream.streams.create(work, owner=make_user(work), name="doomed")
    with publisher(key, **SHORT) as process:
        assert "ready" in process.hear()
        process.tell("start", "heartbeat")
        assert [{"epoch": 1}, {"epoch": 1}] == [process.hear(), process.hear()]
        process.kill()
    killed_at = utc_now()

    seen = watch(rootstream, stream)

    assert utc_now() - killed_at <= LEASE + GRACE + SLACK
    assert [LiveState.RECONNECTING, LiveState.OFFLINE] == seen[-2:]
    with rootstream.transaction() as work:
        session = work.stream_sessions.get_latest(stream.id)
    assert EndReason.GRACE_EXPIRED is session.end_reason
    assert session.started_at <= session.ended_at <= killed_at


@pytest.mark.slow
def test_publishers_killed_at_random_moments_leave_whole_histories(rootstream, publisher):
    chance = random.Random(7)
    with rootstream.transaction() as work:
        owner = make_user(work)
        made = [rootstream.streams.create(work, owner=owner, name=f"s{n}") for n in range(4)]
    with ExitStack() as stack:
        processes = [stack.enter_context(publisher(key, **SHORT)) for _, key in made]
        for process in processes:
            process.tell("busy")
        for process in processes:
            assert "ready" in process.hear()
            assert {"round": 1} == process.hear()
            time.sleep(chance.random() / 10)  # the moment of the crash, anywhere in a round
            process.kill()

    give_up_at = time.monotonic() + (LEASE + GRACE + SLACK).total_seconds()
    while rootstream.streams.list_live():
        assert time.monotonic() < give_up_at
        rootstream.streams.reap()
        time.sleep(0.05)
    rootstream.streams.reap()
    for stream, _ in made:
        with rootstream.transaction() as work:
            sessions = work.stream_sessions.list_by_stream(stream.id)
            live = work.stream_live.get_one(stream.id)
        assert not live.is_live
        assert all(session.ended_at >= session.started_at for session in sessions)
        check_history(rootstream, stream, epochs=live.lease_epoch, sessions=len(sessions))


def watch(rootstream, stream):
    """Reap until the stream is offline; return the different states on the way."""
    give_up_at = time.monotonic() + (LEASE + GRACE + SLACK).total_seconds()
    seen: list[LiveState] = []
    while LiveState.OFFLINE not in seen:
        assert time.monotonic() < give_up_at, seen
        rootstream.streams.reap()
        state = rootstream.streams.live_status(stream.id).state
        if state not in seen:
            seen.append(state)
        time.sleep(0.02)
    # The status knows from its times; the row follows with the reaper's next turn.
    rootstream.streams.reap()
    return seen


def check_history(rootstream, stream, *, epochs, sessions):
    """Every epoch is one start or resumption, and every one of them was ended or interrupted."""
    kinds = [event.event_type for event in rootstream.events.read("Stream", str(stream.id))][2:]
    assert epochs == kinds.count("StreamStarted") + kinds.count("StreamResumed")
    assert sessions == kinds.count("StreamStarted") == kinds.count("StreamEnded")
    allowed = {
        None: {"StreamStarted"},
        "StreamStarted": {"StreamDisconnected", "StreamEnded"},
        "StreamResumed": {"StreamDisconnected", "StreamEnded"},
        "StreamDisconnected": {"StreamResumed", "StreamEnded"},
        "StreamEnded": {"StreamStarted"},
    }
    assert all(
        after in allowed[before] for before, after in zip([None, *kinds], kinds, strict=False)
    )
