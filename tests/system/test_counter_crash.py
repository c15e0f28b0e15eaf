"""The counter law: what Redis was told is what PostgreSQL holds, through a kill at any point.

Flushers are real processes, ended by a real SIGKILL at a random step of their conversation with
Redis or PostgreSQL, while others flush and heartbeats go on.
"""

from __future__ import annotations

import random

import pytest

from rootstream_db.models import StreamSession
from rootstream_db.services.viewers import Heartbeat, ViewerManager
from rootstream_db.settings import ViewerSettings
from tests.factories import make_stream
from tests.fixtures.crowd import Crowd
from tests.fixtures.doom import count_steps, fork_doomed, was_killed

CRASHES = 60
"""Of each seed; there are four."""
STREAMS = 5
BATCH = 2
"""Streams of one transaction, so that a flush has several receipts."""

pytestmark = [
    pytest.mark.slow,
    # Children only flush and die; they never touch what the parent's threads may hold.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


@pytest.fixture
def crowd(rootstream, clock):
    with rootstream.transaction() as work:
        streams = [make_stream(work).id for _ in range(STREAMS)]
        for stream_id in streams:
            session = StreamSession(stream_id=stream_id, started_at=work.now)
            work.stream_live.get_one(stream_id).stream_session_id = work.stream_sessions.add(
                session
            ).id
    settings = ViewerSettings(flush_batch=BATCH)
    viewers = ViewerManager(rootstream.database, rootstream.cache, settings=settings, clock=clock)
    return Crowd(viewers, clock, streams)


def go_on(crowd: Crowd, chance: random.Random) -> None:
    """Let some of the crowd say something, and time pass."""
    beats = [
        Heartbeat(
            chance.choice(crowd.streams),
            f"viewer {chance.randrange(20)}",
            watch_seconds=chance.choice((None, None, 3)),
            bytes_out=chance.randrange(10_000),
        )
        for _ in range(chance.randrange(12))
    ]
    crowd.beat(beats)
    if chance.random() < 0.3:
        crowd.leave(chance.choice(crowd.streams), f"viewer {chance.randrange(20)}")
    crowd.clock.advance(chance.choice((0.4, 1, 7, 7, 7, 50)))


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_no_counter_increment_is_lost_or_doubled_by_killed_flushers(rootstream, crowd, seed):
    chance = random.Random(seed)
    go_on(crowd, chance)
    # A new process connects first and finds what others left behind, which takes more steps.
    steps = 3 * count_steps(crowd.viewers.flush)
    crashes = survivors = 0
    while crashes < CRASHES:
        go_on(crowd, chance)
        number = chance.choice((1, 1, 2))
        flushers = [
            fork_doomed(crowd.viewers.flush, at=None if coin < 0.2 else chance.randrange(1, steps))
            for coin in (chance.random() for _ in range(number))
        ]
        go_on(crowd, chance)
        killed = sum(was_killed(child) for child in flushers)
        crashes += killed
        survivors += number - killed
    result = crowd.viewers.flush()

    crowd.clock.advance(60)
    crowd.viewers.flush()
    with rootstream.transaction() as work:
        assert crowd.told == crowd.held(work)
        assert crowd.told_without_heartbeats() == crowd.held_by_visits(work)
        assert crowd.told_without_heartbeats() == crowd.held_by_sessions(work)
    assert CRASHES <= crashes
    assert survivors
    assert 250 < sum(told.heartbeats for told in crowd.told.values())
    assert result.flush_ids


def test_every_single_step_of_a_counter_flush_may_be_the_last(rootstream, crowd):
    """One kill at each step in turn, so that no point in between is left to chance."""
    step = 1
    while True:
        crowd.beat([Heartbeat(one, "a viewer", bytes_out=step) for one in crowd.streams])
        crowd.clock.advance(50)
        if not was_killed(fork_doomed(crowd.viewers.flush, at=step)):
            break
        crowd.viewers.flush()
        step += 1
    with rootstream.transaction() as work:
        assert crowd.told == crowd.held(work)
        assert crowd.told_without_heartbeats() == crowd.held_by_sessions(work)
    assert 50 < step
