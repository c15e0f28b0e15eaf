"""The script in Redis decides exactly as the pure function does, whatever happens in what order."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootstream_db.services.rate_limits import Block, Limit, RateLimiter
from rootstream_db.services.rate_limits.gcra import State, block, decide, give_back
from rootstream_db.services.rate_limits.limiter import _EPOCH
from rootstream_db.services.rate_limits.values import decision_of
from rootstream_db.testing import FrozenClock

MICROSECOND = timedelta(microseconds=1)
LIMITS = st.builds(
    Limit,
    name=st.just("model"),
    rate=st.integers(1, 7),
    per=st.timedeltas(timedelta(seconds=5), timedelta(minutes=10)),
    burst=st.none() | st.integers(1, 7),
    block=st.none()
    | st.builds(
        Block,
        after=st.integers(1, 4),
        within=st.timedeltas(timedelta(seconds=5), timedelta(minutes=5)),
        base=st.timedeltas(timedelta(seconds=5), timedelta(minutes=5)),
        longest=st.timedeltas(timedelta(minutes=1), timedelta(minutes=20)),
        forget=st.timedeltas(timedelta(minutes=1), timedelta(minutes=20)),
    ),
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["call"] * 6 + ["give back", "block"]),
        st.integers(1, 3),
        st.sampled_from([0, 0, 0, 1, 10**6]) | st.integers(-(10**7), 10**9),
    ),
    max_size=40,
)


@given(limit=LIMITS, steps=STEPS)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_redis_and_the_model_never_differ(cache, limit, steps):
    cache.client.flushdb()
    clock = FrozenClock()
    limits, state, rule = RateLimiter(cache, clock=clock), State(), limit.rule
    for action, wanted, pause in steps:
        now = (clock.advance(pause * MICROSECOND) - _EPOCH) // MICROSECOND
        cost = min(wanted, limit.most)
        if action == "call":
            state, verdict = decide(rule, state, now=now, cost=cost)
            assert decision_of(verdict) == limits.decide("x", limit, cost=cost)
        elif action == "give back":
            state = give_back(rule, state, now=now, cost=cost)
            limits.give_back("x", limit, cost=cost)
        elif limit.block is not None:
            state = block(rule, state, now=now)
            assert (state.blocked_until - now) * MICROSECOND == limits.block("x", limit)
