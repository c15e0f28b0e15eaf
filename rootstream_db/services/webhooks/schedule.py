"""Decide when a message that failed is tried again, and when it is given up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

LONGEST_RETRY_AFTER: Final = timedelta(hours=24)
"""The most a receiver can put off the next attempt."""

_FACTOR: Final = 4.0
_SPREAD: Final = 0.25


@dataclass(frozen=True, kw_only=True)
class RetrySchedule:
    """Pauses that grow fourfold, spread by a quarter to either side.

    Attributes:
        attempts: attempts in all before a message is given up.
        first_delay: the pause after the first failure.
        max_delay: the longest pause, before it is spread.
    """

    attempts: int
    first_delay: timedelta
    max_delay: timedelta

    def delay_after(
        self, failures: int, *, chance: float, asked: timedelta | None = None
    ) -> timedelta | None:
        """Return the pause after so many failures; None if the message is to be given up.

        Args:
            failures: attempts that failed so far, at least 1.
            chance: a random number from 0 to 1 that spreads retries in time.
            asked: what the receiver asked for; it lengthens the pause, it never shortens it.
        """
        if failures >= self.attempts:
            return None
        spread = 1 - _SPREAD + 2 * _SPREAD * chance
        # In floats, and only as many steps as can matter: a timedelta does not hold more.
        grown = self.first_delay.total_seconds() * _FACTOR ** min(failures - 1, 30)
        pause = timedelta(seconds=min(grown, self.max_delay.total_seconds()) * spread)
        return max(pause, min(asked or timedelta(0), LONGEST_RETRY_AFTER))


def retry_after(header: str | None, now: datetime) -> timedelta | None:
    """Return what a ``Retry-After`` header asks for, in either of its two forms.

    None if there is none or if it is not understood (RFC 9110, 10.2.3).
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        # Whoever sends twenty digits gets the longest pause, not an overflow.
        return timedelta(seconds=int(text[:9]))
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(moment - now, timedelta(0))
