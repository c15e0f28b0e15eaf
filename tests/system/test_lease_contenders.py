"""Contenders for one stream: threads and processes with real commits, one winner each round."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from rootstream_db.errors import PermissionDeniedError, StaleLeaseError, StreamAlreadyLiveError
from rootstream_db.services.streams import Lease, ReapResult
from tests.factories import make_user

CONTENDERS = 16
ROUNDS = 40
PROCESSES = 3


@pytest.fixture
def made(rootstream):
    with rootstream.transaction() as work:
        return rootstream.streams.create(work, owner=make_user(work), name="contended")


@pytest.fixture
def together():
    """Call a function with 0, 1, 2 … at the same time and return the results."""
    with ThreadPoolExecutor(CONTENDERS) as pool:

        def run(function, count=CONTENDERS):
            barrier = threading.Barrier(count)

            def call(number):
                barrier.wait(timeout=30)
                return function(number)

            return list(pool.map(call, range(count)))

        yield run


@pytest.mark.slow
def test_sixteen_contenders_have_one_winner_in_each_of_forty_rounds(
    rootstream, made, together, clock
):
    stream, key = made
    streams = rootstream.streams

    def contend(number):
        try:
            return streams.start(key, node=f"node-{number}")
        except StreamAlreadyLiveError:
            return None

    # Each round the stream becomes free in another way: all four kinds of start are contended.
    ways_out = [
        streams.stop,
        lambda lease: clock.advance(15),
        streams.disconnect,
        lambda lease: clock.advance(60),
    ]
    stale: list[Lease] = []
    for number in range(ROUNDS):
        winners = [lease for lease in together(contend) if lease is not None]
        assert 1 == len(winners)
        (winner,) = winners
        assert number + 1 == winner.epoch
        for loser in stale[-3:]:
            with pytest.raises(StaleLeaseError):
                streams.heartbeat(loser)
        streams.heartbeat(winner)
        stale.append(winner)
        ways_out[number % len(ways_out)](winner)

    streams.reap()
    with rootstream.transaction() as work:
        sessions = work.stream_sessions.list_by_stream(stream.id)
    # Of every four rounds two find an interrupted session and resume it.
    assert {ROUNDS // 2} == {len(sessions), sum(session.reconnects for session in sessions)}
    kinds = Counter(event.event_type for event in rootstream.events.read("Stream", str(stream.id)))
    assert (ROUNDS // 2, ROUNDS // 2) == (kinds["StreamStarted"], kinds["StreamResumed"])
    assert kinds["StreamDisconnected"] == kinds["StreamResumed"]
    assert kinds["StreamEnded"] == kinds["StreamStarted"]


@pytest.mark.slow
def test_contenders_in_processes_of_their_own_have_one_winner_each_round(
    rootstream, made, publisher
):
    _, key = made
    with ExitStack() as stack:
        contenders = [stack.enter_context(publisher(key)) for _ in range(PROCESSES)]
        assert all("ready" in contender.hear() for contender in contenders)
        for number in range(ROUNDS // 4):
            for contender in contenders:
                contender.tell("start")
            answers = [contender.hear() for contender in contenders]
            (winner,) = (index for index, said in enumerate(answers) if "epoch" in said)
            assert {"epoch": number + 1} == answers[winner]
            assert PROCESSES - 1 == answers.count({"error": "stream.already_live"})
            contenders[winner].tell("stop")
            assert {"epoch": number + 1} == contenders[winner].hear()


@pytest.mark.slow
def test_a_key_revoked_while_its_owner_starts_never_leaves_the_stream_live(
    rootstream, made, together
):
    stream, _ = made
    streams = rootstream.streams
    outcomes: Counter[str] = Counter()
    for _ in range(20):
        with rootstream.transaction() as work:
            row, key = streams.issue_key(work, work.streams.get_one(stream.id))

        def race(number, row=row, key=key):
            if number:
                rootstream.run(
                    lambda work: streams.revoke_key(work, work.stream_keys.get_one(row.id))
                )
                return "revoked"
            try:
                streams.start(key, node="a")
            except PermissionDeniedError:
                return "refused"
            return "started"

        outcomes.update(together(race, 2))
        assert not streams.live_status(stream.id).is_live
        assert [] == streams.list_live()
    assert 20 == outcomes["revoked"]
    assert 20 == outcomes["refused"] + outcomes["started"]


@pytest.mark.slow
def test_reapers_share_the_work_and_end_every_session_once(rootstream, together, clock):
    dead = 120
    with rootstream.transaction() as work:
        owner = make_user(work)
        keys = [
            rootstream.streams.create(work, owner=owner, name=f"s{number}")[1]
            for number in range(dead)
        ]
    for key in keys:
        rootstream.streams.start(key, node="a")

    for advance, expected in ((15, ReapResult(dead, 0)), (30, ReapResult(0, dead))):
        clock.advance(advance)
        reaped = together(lambda _: rootstream.streams.reap(), 4)
        assert expected == sum(reaped, ReapResult(0, 0))
    ended = Counter(event.event_type for event in rootstream.events.read_all())["StreamEnded"]
    assert dead == ended
    assert [] == rootstream.streams.list_live()
