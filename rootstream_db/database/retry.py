"""Which failures are worth another try, and how long to wait before it."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

from rootstream_db.errors import (
    CircuitOpenError,
    DatabaseUnavailableError,
    RootStreamError,
    TransientStorageError,
)

T = TypeVar("T")
_logger: Final = logging.getLogger(__name__)
_CONFLICT_BASE: Final = 0.01
"""Seconds before the second try of a deadlocked or unserializable unit: the other one is done."""
_OUTAGE_BASE: Final = 0.2
"""Seconds before the second try after a lost connection: a restart or failover takes longer."""
_LONGEST: Final = 5.0


def retry(
    unit: Callable[[], T],
    *,
    attempts: int,
    idempotent: bool = False,
    sleep: Callable[[float], None] = time.sleep,
    jitter: Callable[[], float] = random.random,
) -> T:
    """Return what ``unit`` returns, running it again when the failure promises better luck."""
    attempt = 1
    while True:
        try:
            return unit()
        except RootStreamError as error:
            if attempt >= attempts or not may_run_again(error, idempotent=idempotent):
                raise
            pause = delay(error, attempt, jitter=jitter)
            _logger.info(
                "attempt %d of %d failed (%s), next in %.3f s", attempt, attempts, error, pause
            )
        sleep(pause)
        attempt += 1


def may_run_again(error: RootStreamError, *, idempotent: bool) -> bool:
    """Tell whether the whole unit may be run again after ``error``.

    Time-outs are not repeated although they are retryable for a person: the unit already took its
    full time once. Neither is a unit whose commit may have happened, unless it is idempotent.
    """
    if isinstance(error, CircuitOpenError):
        return False
    if isinstance(error, DatabaseUnavailableError):
        return idempotent or error.context.get("commit_outcome") != "unknown"
    return isinstance(error, TransientStorageError)


def delay(error: RootStreamError, attempt: int, *, jitter: Callable[[], float]) -> float:
    """Return the pause after the given failed attempt: exponential, the upper half at random."""
    base = _CONFLICT_BASE if isinstance(error, TransientStorageError) else _OUTAGE_BASE
    longest = min(base * 2.0 ** (attempt - 1), _LONGEST)
    return longest * (0.5 + jitter() / 2)
