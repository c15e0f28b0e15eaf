"""A first-come, first-served gate in front of the connection pool.

SQLAlchemy's QueuePool lets the thread that returns a connection take it again before a waiting one
wakes up; under load a few threads do all the work. Here a permit that is given back goes straight
to whoever has waited longest.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rootstream_db.errors import StorageError, StorageTimeoutError


@dataclass(frozen=True, kw_only=True)
class GateStatus:
    """A snapshot of the gate: permits, waiters and how long waiting took so far."""

    size: int
    in_use: int
    waiting: int
    waited: int
    wait_seconds_total: float
    wait_seconds_max: float


class _Waiter:
    """One thread in the queue; ``granted`` and ``refused`` change under the gate's lock only."""

    __slots__ = ("_wake", "granted", "refused")

    def __init__(self) -> None:
        self._wake = threading.Lock()
        self._wake.acquire()
        self.granted = False
        self.refused = False

    def sleep(self, timeout: float) -> None:
        # A bare lock is the cheapest thing to wait on; it is released once, by notify().
        self._wake.acquire(timeout=min(timeout, threading.TIMEOUT_MAX))

    def notify(self) -> None:
        self._wake.release()


class FifoGate:
    """Lets ``size`` holders in at a time, in the order in which they came."""

    def __init__(self, size: int, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._free = size
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._waiters: deque[_Waiter] = deque()
        self._closed = False
        self._waited = 0
        self._wait_total = 0.0
        self._wait_max = 0.0

    @contextmanager
    def permit(self, timeout: float) -> Iterator[None]:
        """Hold a permit inside the block.

        Raises:
            StorageTimeoutError: if none became free within ``timeout`` seconds.
        """
        self.enter(timeout)
        try:
            yield
        finally:
            self.leave()

    def enter(self, timeout: float) -> None:
        """Take a permit, waiting in line for at most ``timeout`` seconds."""
        with self._lock:
            self._refuse_if_closed()
            # A free permit with somebody in line cannot be: leave() hands over first.
            if self._free:
                self._free -= 1
                return
            started = self._monotonic()
            waiter = _Waiter()
            self._waiters.append(waiter)
        try:
            waiter.sleep(timeout)
        except BaseException:
            self._withdraw(waiter)
            raise
        self._settle(waiter, self._monotonic() - started)

    def leave(self) -> None:
        """Give a permit back: to the first in line, else to the gate."""
        with self._lock:
            self._hand_over()

    def close(self) -> None:
        """Turn away everybody in line and everybody who comes later."""
        with self._lock:
            self._closed = True
            while self._waiters:
                waiter = self._waiters.popleft()
                waiter.refused = True
                waiter.notify()

    def status(self) -> GateStatus:
        """Return a consistent snapshot."""
        with self._lock:
            return GateStatus(
                size=self._size,
                in_use=self._size - self._free,
                waiting=len(self._waiters),
                waited=self._waited,
                wait_seconds_total=self._wait_total,
                wait_seconds_max=self._wait_max,
            )

    def _hand_over(self) -> None:
        if self._waiters:
            waiter = self._waiters.popleft()
            waiter.granted = True
            waiter.notify()
        else:
            self._free += 1

    def _settle(self, waiter: _Waiter, waited: float) -> None:
        with self._lock:
            self._waited += 1
            self._wait_total += waited
            self._wait_max = max(self._wait_max, waited)
            # Looked at under the lock: a hand-over may have raced with the time-out, and then the
            # permit is ours in spite of it.
            if waiter.granted:
                return
            if waiter.refused:
                self._refuse_if_closed()
            self._waiters.remove(waiter)
        raise StorageTimeoutError(
            f"no connection became free within {waited:.1f} s: all {self._size} of the pool are in "
            "use. Raise database.pool_size, shorten the transactions, or start fewer threads",
            waited=waited,
            pool_size=self._size,
        )

    def _withdraw(self, waiter: _Waiter) -> None:
        """Leave the line after an interrupt, passing on a permit that arrived meanwhile."""
        with self._lock:
            if waiter.granted:
                self._hand_over()
            elif not waiter.refused:
                self._waiters.remove(waiter)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise StorageError("the database was closed: no new unit of work can begin")
