"""How long guessing is stopped: locks that double with every further failure."""

from __future__ import annotations

from datetime import timedelta

_MOST_DOUBLINGS = 64
"""More would be no number of seconds any more, and is beyond every longest lock."""


def doubling_lock(
    failures: int, *, allowed: int, base: timedelta, longest: timedelta
) -> timedelta | None:
    """Return how long the lock after that many failures in a row lasts, or None for no lock.

    The first lock lasts ``base``; every further failure doubles it up to ``longest``.
    """
    if failures < allowed:
        return None
    doublings = min(failures - allowed, _MOST_DOUBLINGS)
    seconds = base.total_seconds() * 2.0**doublings
    return timedelta(seconds=min(seconds, longest.total_seconds()))
