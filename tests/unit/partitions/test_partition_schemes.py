from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootstream_db.services.partitions import USAGE_LOGS, VIEWER_SESSIONS, Period


def at(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("period", "moment", "start", "following"),
    [
        (Period.DAY, at(2026, 2, 28, 23, 59), at(2026, 2, 28), at(2026, 3, 1)),
        (Period.DAY, at(2028, 2, 28), at(2028, 2, 28), at(2028, 2, 29)),
        (Period.MONTH, at(2026, 12, 31, 23, 59), at(2026, 12, 1), at(2027, 1, 1)),
        (Period.MONTH, at(2026, 1, 31), at(2026, 1, 1), at(2026, 2, 1)),
    ],
)
def test_periods_follow_the_calendar_in_utc(period, moment, start, following):
    assert start == period.start(moment)
    assert following == period.following(start)


def test_a_moment_counts_where_it_is_in_utc():
    late_in_new_york = datetime(2026, 1, 31, 23, tzinfo=timezone(timedelta(hours=-5)))

    assert at(2026, 2, 1) == Period.MONTH.start(late_in_new_york)


def test_partitions_are_named_by_their_start():
    assert "viewer_sessions_p20260203" == VIEWER_SESSIONS.name(at(2026, 2, 3))
    assert "usage_logs_p202602" == USAGE_LOGS.name(at(2026, 2, 1))


@pytest.mark.parametrize(
    "name",
    [
        "usage_logs_default",
        "usage_logs_p2026",
        "usage_logs_p202613",
        "usage_logs_p20260203",
        "usage_logs_p 20262",
        "viewer_sessions_p20260203",
        "mine",
    ],
)
def test_a_table_that_somebody_else_named_is_left_alone(name):
    assert USAGE_LOGS.start_of(name) is None


@pytest.mark.parametrize("scheme", [VIEWER_SESSIONS, USAGE_LOGS])
@given(
    now=st.datetimes(at(2000, 1, 1).replace(tzinfo=None), timezones=st.just(UTC)),
    count=st.integers(0, 20),
)
def test_partitions_ahead_follow_one_another_around_now(scheme, now, count):
    if now.year > 9000:
        return
    starts = list(scheme.ahead(now, count))

    assert count + 2 == len(starts)
    assert all(scheme.period.following(one) == other for one, other in pairwise(starts))
    assert starts[1] <= now < scheme.period.following(starts[1])
    assert starts == [scheme.start_of(scheme.name(start)) for start in starts]
