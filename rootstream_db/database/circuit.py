"""A circuit breaker: while the server is gone, fail at once instead of after a time-out each."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Final, Self

from rootstream_db.errors import CircuitOpenError, DatabaseUnavailableError
from rootstream_db.settings import DatabaseSettings

_logger: Final = logging.getLogger(__name__)


class CircuitState(StrEnum):
    """Whether calls go through: all, none, or the one that finds out."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class CircuitBreaker:
    """Opens after consecutive connection failures, lets exactly one probe in after a pause."""

    def __init__(
        self,
        *,
        failures: int,
        reset: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = failures
        self._reset = reset
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._state = CircuitState.CLOSED
        self._failures = 0
        self._opened_at = 0.0

    @classmethod
    def of(cls, settings: DatabaseSettings) -> Self:
        """Return a closed circuit with the limits of ``settings``."""
        return cls(failures=settings.circuit_failures, reset=settings.circuit_reset)

    @property
    def state(self) -> CircuitState:
        """Return the state as it is now."""
        return self._state

    def check(self) -> None:
        """Refuse at once what could not be admitted, before it waits in line for a connection.

        Raises:
            CircuitOpenError: the circuit is open: its pause is not over, or a probe is under way.
        """
        with self._lock:
            self._refuse_unless_due()

    @contextmanager
    def admission(self) -> Iterator[bool]:
        """Make a connection inside the block; yields whether this one is the probe.

        A probe that leaves the block well closes the circuit; one that meets a connection failure
        opens it anew; one that fails for another reason leaves its place to the next caller.
        """
        probing = self._admit()
        try:
            yield probing
        except DatabaseUnavailableError:
            if probing:
                with self._lock:
                    self._trip()
            raise
        except BaseException:
            if probing:
                self._abandon_probe()
            raise
        if probing:
            self._close()

    def record_failure(self) -> None:
        """Count a connection failure; only a closed circuit listens, a probe decides the rest."""
        with self._lock:
            if self._state is CircuitState.CLOSED:
                self._failures += 1
                if self._failures >= self._limit:
                    self._trip()

    def record_success(self) -> None:
        """Forget earlier failures: only consecutive ones open the circuit."""
        # Unlocked read: this runs after every unit, and the count is nearly always zero.
        if self._failures:
            with self._lock:
                if self._state is CircuitState.CLOSED:
                    self._failures = 0

    def _admit(self) -> bool:
        with self._lock:
            self._refuse_unless_due()
            if self._state is CircuitState.CLOSED:
                return False
            self._state = CircuitState.HALF_OPEN
            return True

    def _refuse_unless_due(self) -> None:
        if self._state is CircuitState.CLOSED:
            return
        remaining = self._opened_at + self._reset - self._monotonic()
        if self._state is CircuitState.OPEN and remaining <= 0:
            return
        raise CircuitOpenError(
            f"the database failed {self._limit} times in a row; calls are refused until one "
            "attempt succeeds",
            # While a probe is under way its outcome is at most moments away.
            retry_after=max(remaining, 0.1),
        )

    def _trip(self) -> None:
        self._state = CircuitState.OPEN
        self._opened_at = self._monotonic()
        _logger.warning("circuit open: the database cannot be reached")

    def _close(self) -> None:
        with self._lock:
            self._state = CircuitState.CLOSED
            self._failures = 0
        _logger.info("circuit closed: the database answers again")

    def _abandon_probe(self) -> None:
        with self._lock:
            self._state = CircuitState.OPEN
