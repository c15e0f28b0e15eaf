from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from rootstream_db.models import StreamSession
from rootstream_db.services.viewers import Heartbeat

PRODUCERS = 3
FLUSHERS = 4
ROUNDS = 40


def test_flushers_and_producers_at_once_lose_and_double_nothing(
    small_batches, make_streams, totals
):
    streams = make_streams(6)
    beats = [Heartbeat(one, f"v{n}", None, 1, 10) for one in streams for n in range(5)]
    done = threading.Event()

    def produce() -> int:
        return sum(small_batches.heartbeat_many(beats) for _ in range(ROUNDS))

    def flush() -> None:
        while not done.is_set():
            small_batches.flush()

    with ThreadPoolExecutor(PRODUCERS + FLUSHERS) as pool:
        flushers = [pool.submit(flush) for _ in range(FLUSHERS)]
        told = sum(work.result(60) for work in [pool.submit(produce) for _ in range(PRODUCERS)])
        done.set()
        for work in flushers:
            work.result(60)
    small_batches.flush()
    assert PRODUCERS * ROUNDS * len(beats) == told == sum(totals(one)[0] for one in streams)
    assert [(told // 6, 5, told // 6, told // 6 * 10)] * 6 == [totals(one) for one in streams]


def test_a_flush_and_the_end_of_a_broadcast_wait_for_each_other(
    rootstream, viewers, stream_id, totals
):
    """Both lock the live row first, so neither can deadlock with the other."""
    with rootstream.transaction() as work:
        session = work.stream_sessions.add(StreamSession(stream_id=stream_id, started_at=work.now))
        work.stream_live.get_one(stream_id).stream_session_id = session.id
    done = threading.Event()

    def beat_and_flush() -> None:
        while not done.is_set():
            viewers.heartbeat(stream_id, viewer="ann", watch_seconds=1)
            viewers.flush()

    with ThreadPoolExecutor(1) as pool:
        flushing = pool.submit(beat_and_flush)
        for _ in range(50):
            with rootstream.transaction() as work:
                work.stream_live.lock(stream_id)
                work.stream_sessions.lock_one(session.id).reconnects += 1
        done.set()
        flushing.result(30)
    viewers.flush()
    with rootstream.transaction() as work:
        found = work.stream_sessions.get_one(session.id)
        assert (50, totals(stream_id)[2]) == (found.reconnects, found.watch_seconds)
