"""Codes against a model that knows nothing but a set of spent steps and a clock."""

from __future__ import annotations

from collections import Counter

import pyotp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootstream_db.errors import ClockSkewError, CodeReusedError, InvalidCodeError
from tests.fixtures.mfa import enroll

MOVES = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 7, 29, 30, 31, 60, 90, 3600]),
        st.integers(-13, 13),
    ),
    min_size=1,
    max_size=25,
)
"""Wait so many seconds, then send the code of so many steps from now."""


class Model:
    """What a person would say who has read the rules: window 1, drift 2, each step once."""

    def __init__(self, spent: int) -> None:
        self.spent = spent
        self.drift = 0

    def send(self, now: int, step: int) -> str:
        earliest, latest = min(0, self.drift) - 1, max(0, self.drift) + 1
        away = step - now
        if earliest <= away <= latest:
            if step <= self.spent:
                return "reused"
            self.spent = step
            self.drift += (away > self.drift) - (away < self.drift)
            self.drift = max(-2, min(2, self.drift))
            return "ok"
        return "skew" if -10 <= away < 0 else "wrong"


@pytest.mark.slow
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(moves=MOVES)
def test_codes_are_taken_as_the_rules_say(unthrottled, clock, moves):
    person = enroll(unthrottled, clock)
    app = pyotp.TOTP(person.secret)
    with unthrottled.transaction() as work:
        model = Model(work.mfa_factors.get_one(person.factor_id).last_used_step)
    taken: Counter[int] = Counter()
    for seconds, away in moves:
        clock.advance(seconds)
        now = int(clock().timestamp()) // 30
        code = app.generate_otp(now + away)
        steps_with_it = [
            step for step in range(now - 10, now + 11) if app.generate_otp(step) == code
        ]
        if len(steps_with_it) > 1:
            # One in fifty thousand: two steps with one code; the model knows none of that.
            continue
        try:
            person.verify(code)
        except CodeReusedError:
            outcome = "reused"
        except ClockSkewError:
            outcome = "skew"
        except InvalidCodeError:
            outcome = "wrong"
        else:
            outcome = "ok"
            taken[now + away] += 1
        assert model.send(now, now + away) == outcome
    assert set(taken.values()) <= {1}
