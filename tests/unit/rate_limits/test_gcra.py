"""The limit as a pure function: bursts, recovery, blocks, clocks that jump."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootstream_db.errors import ValidationError
from rootstream_db.services.rate_limits import Block, Limit
from rootstream_db.services.rate_limits.gcra import Rule, State, block, decide, give_back
from rootstream_db.services.rate_limits.local import LocalCounters

SECOND = 1_000_000
NOW = 1_800_000_000 * SECOND
RULE = Rule(SECOND, 5 * SECOND)
STRICT = Rule(
    SECOND,
    5 * SECOND,
    after=3,
    within=60 * SECOND,
    base=30 * SECOND,
    longest=100 * SECOND,
    forget=1000 * SECOND,
)


def calls(rule: Rule, state: State, *moments: int) -> tuple[State, list[bool]]:
    answers = []
    for moment in moments:
        state, verdict = decide(rule, state, now=moment)
        answers.append(verdict.allowed)
    return state, answers


def test_a_burst_is_allowed_and_then_one_call_each_interval():
    state, answers = calls(RULE, State(), *[NOW] * 6)
    assert [True] * 5 + [False] == answers
    moments = [NOW + SECOND - 1, NOW + SECOND, NOW + SECOND, NOW + 2 * SECOND]
    assert [False, True, False, True] == calls(RULE, state, *moments)[1]


def test_a_verdict_says_what_is_left_and_when_to_come_back():
    state, verdict = decide(RULE, State(), now=NOW)
    assert (4, 0, SECOND) == (verdict.remaining, verdict.retry_after, verdict.reset_after)
    state, _ = calls(RULE, state, *[NOW] * 4)
    _, verdict = decide(RULE, state, now=NOW + 1)
    assert (0, SECOND - 1, 5 * SECOND - 1) == (
        verdict.remaining,
        verdict.retry_after,
        verdict.reset_after,
    )


def test_an_expensive_call_waits_until_it_fits():
    state, verdict = decide(RULE, State(), now=NOW, cost=4)
    assert (True, 1) == (verdict.allowed, verdict.remaining)
    _, verdict = decide(RULE, state, now=NOW, cost=3)
    assert (False, 2 * SECOND, 1) == (verdict.allowed, verdict.retry_after, verdict.remaining)
    assert decide(RULE, state, now=NOW + 2 * SECOND, cost=3)[1].allowed


@given(
    st.lists(st.tuples(st.integers(0, 3 * SECOND), st.integers(1, 5)), max_size=60),
    st.integers(1, 5),
)
def test_no_span_of_time_sees_more_than_the_burst_and_the_rate(steps, burst):
    rule, state, now, allowed = Rule(SECOND, burst * SECOND), State(), NOW, []
    for pause, cost in steps:
        now += pause
        state, verdict = decide(rule, state, now=now, cost=min(cost, burst))
        if verdict.allowed:
            allowed.append((now, min(cost, burst)))
    for start, (first, _) in enumerate(allowed):
        spent = 0
        for moment, cost in allowed[start:]:
            spent += cost
            assert spent <= burst + (moment - first) / SECOND


def test_a_clock_set_back_closes_the_door_no_longer_than_the_limit_can():
    state, _ = calls(RULE, State(), *[NOW] * 5)
    an_hour_ago = NOW - 3600 * SECOND
    _, verdict = decide(RULE, state, now=an_hour_ago)
    assert (False, SECOND) == (verdict.allowed, verdict.retry_after)


def test_a_call_given_back_was_never_made():
    state, _ = calls(RULE, State(), *[NOW] * 5)
    returned = give_back(RULE, state, now=NOW, cost=2)
    assert [True, True, False] == calls(RULE, returned, NOW, NOW, NOW)[1]
    assert State() == give_back(RULE, State(), now=NOW)


def refuse(state: State, now: int, times: int = 1) -> tuple[State, list[bool]]:
    state, _ = calls(STRICT, state, *[now] * 5)
    started = []
    for _ in range(times):
        state, verdict = decide(STRICT, state, now=now)
        started.append(verdict.block_started)
    return state, started


def test_repeated_excess_blocks_and_the_block_ends():
    state, started = refuse(State(), NOW, times=3)
    assert [False, False, True] == started
    assert NOW + 30 * SECOND == state.blocked_until
    state, verdict = decide(STRICT, state, now=NOW + 30 * SECOND - 1)
    assert (False, True, 1) == (verdict.allowed, verdict.blocked, verdict.retry_after)
    assert NOW + 30 * SECOND == state.blocked_until
    assert decide(STRICT, state, now=NOW + 30 * SECOND)[1].allowed


def test_blocks_grow_up_to_the_longest_and_are_forgotten_after_quiet():
    state, now, lengths = State(), NOW, []
    for _ in range(4):
        state, _ = refuse(state, now, times=3)
        lengths.append((state.blocked_until - now) // SECOND)
        now = state.blocked_until
    assert [30, 60, 100, 100] == lengths
    state, _ = refuse(state, now + STRICT.forget, times=3)
    assert 30 == (state.blocked_until - now - STRICT.forget) // SECOND


def test_refusals_far_apart_do_not_block():
    state, started = refuse(State(), NOW, times=2)
    state, started = refuse(state, NOW + 60 * SECOND, times=2)
    assert [False, False] == started


def test_a_block_by_decree_counts_as_one():
    first = block(STRICT, State(), now=NOW)
    second = block(STRICT, first, now=NOW)
    assert (30, 60) == (
        (first.blocked_until - NOW) // SECOND,
        (second.blocked_until - NOW) // SECOND,
    )


@given(st.integers(0, 5), st.integers(0, 10**9))
def test_a_forgettable_state_decides_like_none(refusals, later):
    state, _ = refuse(State(), NOW, times=refusals)
    moment = state.forgettable_at(STRICT) + later
    assert decide(STRICT, State(), now=moment)[1] == decide(STRICT, state, now=moment)[1]


@pytest.mark.parametrize(
    ("over", "field"),
    [
        ({"name": ""}, "name"),
        ({"rate": 0}, "rate"),
        ({"rate": 1.5}, "rate"),
        ({"rate": True}, "rate"),
        ({"burst": 0}, "burst"),
        ({"per": timedelta(0)}, "per"),
        ({"per": timedelta(days=400)}, "per"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(over, field):
    with pytest.raises(ValidationError) as caught:
        Limit(**{"name": "x", "rate": 5, "per": timedelta(seconds=1), **over})
    assert field == caught.value.field


def test_a_block_that_makes_no_sense_is_refused():
    with pytest.raises(ValidationError, match="after is a whole number"):
        Block(after=0, within=timedelta(1), base=timedelta(1))


def test_an_uneven_rate_is_rounded_so_that_never_more_is_allowed():
    rule = Limit(name="x", rate=3, per=timedelta(seconds=1)).rule
    assert (333_334, 3 * 333_334) == (rule.interval, rule.tolerance)


def test_a_process_forgets_the_subjects_it_saw_longest_ago():
    counters = LocalCounters(most=2)
    tight = Rule(SECOND, SECOND)
    answers = [counters.decide(subject, tight, now=NOW, cost=1).allowed for subject in "abacaab"]
    assert [True, True, False, True, False, False, True] == answers
