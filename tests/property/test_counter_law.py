"""The counter law over any interleaving of heartbeats, goodbyes, pauses, flushes and crashes."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootstream_db.models import StreamSession
from rootstream_db.services.viewers import Heartbeat, ViewerManager
from rootstream_db.settings import ViewerSettings
from tests.factories import make_stream
from tests.fixtures.crowd import Crowd
from tests.fixtures.doom import doomed

STREAMS = 3
BEAT = st.tuples(
    st.just("beat"),
    st.lists(
        st.builds(
            Heartbeat,
            stream_id=st.integers(0, STREAMS - 1),
            viewer=st.sampled_from(["ann", "bob cat", "ünï|code\n"]),
            user_id=st.none() | st.integers(1, 2**63 - 1),
            watch_seconds=st.none() | st.integers(0, 100),
            bytes_out=st.integers(0, 2**43),
        ),
        max_size=6,
    ),
)
LEAVE = st.tuples(
    st.just("leave"), st.integers(0, STREAMS - 1), st.sampled_from(["ann", "bob cat"])
)
WAIT = st.tuples(st.just("wait"), st.sampled_from([0.1, 0.999, 1, 10, 44, 45, 46, 100]))
FLUSH = st.tuples(st.just("flush"), st.none() | st.integers(1, 120))
STORY = st.lists(BEAT | LEAVE | WAIT | FLUSH, max_size=25)


def act(crowd: Crowd, what: tuple) -> None:
    match what:
        case "beat", beats:
            crowd.beat([one._replace(stream_id=crowd.streams[one.stream_id]) for one in beats])
        case "leave", number, viewer:
            crowd.leave(crowd.streams[number], viewer)
        case "wait", seconds:
            crowd.clock.advance(seconds)
        case "flush", step:
            doomed(crowd.viewers.flush, at=step)


@given(story=STORY)
@settings(
    max_examples=60,
    deadline=None,
    # Every example has streams of its own, so what an earlier one left behind does no harm.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_counter_law_holds_for_any_story(rootstream, clock, story):
    with rootstream.transaction() as work:
        streams = [make_stream(work).id for _ in range(STREAMS)]
        for stream_id in streams:
            session = work.stream_sessions.add(
                StreamSession(stream_id=stream_id, started_at=work.now)
            )
            work.stream_live.get_one(stream_id).stream_session_id = session.id
    viewers = ViewerManager(
        rootstream.database, rootstream.cache, settings=ViewerSettings(flush_batch=2), clock=clock
    )
    crowd = Crowd(viewers, clock, streams)
    for what in story:
        act(crowd, what)

    viewers.flush()
    with rootstream.transaction() as work:
        assert crowd.told == crowd.held(work)
        assert crowd.told_without_heartbeats() == crowd.held_by_sessions(work)
    assert {one: crowd.present(one) for one in streams} == {
        one: viewers.count(one) for one in streams
    }

    clock.advance(100)
    viewers.flush()
    with rootstream.transaction() as work:
        assert crowd.told == crowd.held(work)
        assert crowd.told_without_heartbeats() == crowd.held_by_visits(work)
    assert [0] * STREAMS == [viewers.count(one) for one in streams]
