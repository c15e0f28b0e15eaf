"""Remembers that Redis is down, so that an outage costs one timeout and one log line."""

from __future__ import annotations

import logging
import threading
import time
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from rootstream_db.cache.forks import watch_forks

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("rootstream_db.cache")

PAUSE_SECONDS: Final = 1.0
"""How long calls are refused after a failure before one of them may try again."""


class Admission(Enum):
    """What a call may do: go on, try first whether Redis is back, or give up at once."""

    GO = auto()
    PROBE = auto()
    REFUSED = auto()


class Circuit:
    """Opens at the first failure, since redis-py has retried by then; one probe a pause closes it.

    Args:
        purpose: what the connection is for, as the log should call it.
        pause: seconds between two probes.
        monotonic: the clock that measures pauses.
    """

    def __init__(
        self,
        purpose: str,
        *,
        pause: float = PAUSE_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._purpose = purpose
        self._pause = pause
        self._monotonic = monotonic
        self._failed_at: float | None = None
        self._probe_at = 0.0
        self._refused = 0
        self._lock = threading.Lock()
        watch_forks(self)

    @property
    def is_open(self) -> bool:
        """Return whether calls are being refused."""
        return self._failed_at is not None

    def admit(self) -> Admission:
        """Decide what the next call may do; at most one caller a pause is told to probe."""
        # Read without the lock: this is on the path of every command.
        if self._failed_at is None:
            return Admission.GO
        with self._lock:
            now = self._monotonic()
            if now < self._probe_at:
                self._refused += 1
                return Admission.REFUSED
            self._probe_at = now + self._pause
            return Admission.PROBE

    def failed(self, error: Exception) -> None:
        """Open, and say so once however many calls fail."""
        with self._lock:
            now = self._monotonic()
            self._probe_at = now + self._pause
            if self._failed_at is not None:
                return
            self._failed_at = now
            self._refused = 0
        logger.warning("%s: Redis is unavailable, going on without it: %s", self._purpose, error)

    def recovered(self) -> None:
        """Close after a successful probe."""
        with self._lock:
            failed_at, self._failed_at = self._failed_at, None
        if failed_at is not None:
            logger.warning(
                "%s: Redis is back after %.1f s; %d calls went without it",
                self._purpose,
                self._monotonic() - failed_at,
                self._refused,
            )

    def after_fork(self) -> None:
        """Replace a lock that another thread of the parent may have held."""
        self._lock = threading.Lock()
