"""When a failed message is tried again: growing pauses, what receivers ask for, an end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from rootstream_db.services.webhooks.schedule import (
    LONGEST_RETRY_AFTER,
    RetrySchedule,
    retry_after,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SCHEDULE = RetrySchedule(
    attempts=6, first_delay=timedelta(seconds=5), max_delay=timedelta(minutes=10)
)


def seconds(failures: int, chance: float = 0.5, asked: timedelta | None = None) -> float | None:
    delay = SCHEDULE.delay_after(failures, chance=chance, asked=asked)
    return None if delay is None else delay.total_seconds()


def test_pauses_grow_fourfold_up_to_the_longest():
    assert [5, 20, 80, 320, 600] == [seconds(failures) for failures in range(1, 6)]


def test_after_the_last_attempt_there_is_no_other():
    assert seconds(6) is None
    assert seconds(7) is None


def test_chance_moves_a_pause_by_a_quarter():
    assert (3.75, 6.25) == (seconds(1, chance=0), seconds(1, chance=1))


def test_a_receiver_lengthens_a_pause_and_cannot_shorten_it():
    assert 90 == seconds(1, asked=timedelta(seconds=90))
    assert 20 == seconds(2, asked=timedelta(seconds=1))


def test_a_receiver_cannot_put_a_message_off_for_ever():
    assert LONGEST_RETRY_AFTER.total_seconds() == seconds(1, asked=timedelta(days=900))


def test_a_receiver_cannot_add_attempts():
    assert seconds(6, asked=timedelta(seconds=1)) is None


def test_ten_thousand_attempts_do_not_overflow():
    patient = RetrySchedule(
        attempts=10_000, first_delay=timedelta(days=1), max_delay=timedelta(days=2)
    )
    assert timedelta(days=2) == patient.delay_after(9_999, chance=0.5)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("120", timedelta(seconds=120)),
        (" 0 ", timedelta(0)),
        ("Thu, 01 Jan 2026 12:01:00 GMT", timedelta(minutes=1)),
        ("Thu, 01 Jan 2026 11:00:00 GMT", timedelta(0)),
        ("Thu, 01 Jan 2026 12:00:10 -0000", timedelta(seconds=10)),
        ("9" * 5000, timedelta(seconds=999_999_999)),
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("²", None),
    ],
)
def test_both_forms_of_retry_after_are_understood(header, expected):
    assert expected == retry_after(header, NOW)
