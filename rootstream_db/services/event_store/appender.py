"""Events at a high rate: queued by many threads, written by one, many at a time."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from rootstream_db.errors import (
    ConflictError,
    RateLimitedError,
    StorageError,
    StorageTimeoutError,
    ValidationError,
)

if TYPE_CHECKING:
    from rootstream_db.database import Database
    from rootstream_db.services.event_store.pending import NewEvent, PendingEvent
    from rootstream_db.services.event_store.store import EventStore

CAPACITY: Final = 10_000
"""Events that may wait by default."""

GROUP: Final = 1000
"""Most events of one transaction by default; more are hardly faster."""

LINGER: Final = 0.005
"""Seconds the first event of a group waits for company."""

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0

_logger: Final = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class AppenderStats:
    """What became of the events so far.

    Attributes:
        appended: accepted by ``append``.
        written: in the log.
        lost: given up; each was logged.
        waiting: queued, or being written now.
    """

    appended: int
    written: int
    lost: int
    waiting: int


class AuditAppender:
    """Appends events outside any unit of work, thousands a second; made by ``events.appender()``.

    ``append`` checks the event and queues it; a thread writes what waits, in order, up to ``group``
    events in a transaction. What is queued is in memory only: a killed process loses what was not
    flushed, and nothing else. While the database is out of reach events wait, and what is written
    after a lost answer is not written twice. An event that the log refuses is logged and counted
    as lost; the others of its group are written.

    Use it for what is worth recording but not worth a transaction of its own. What must be
    recorded together with a change is appended in the unit of work of that change.

    Args:
        database: where the log is.
        events: the event store.
        capacity: events that may wait.
        group: most events of one transaction.
        linger: seconds the first event of a group waits for company.
        block: whether ``append`` waits while the queue is full, or refuses.
        on_loss: called with each lost event and the reason, in the thread that writes.
    """

    _flush_to: int
    _appended: int

    def __init__(
        self,
        database: Database,
        events: EventStore,
        *,
        capacity: int = CAPACITY,
        group: int = GROUP,
        linger: float = LINGER,
        block: bool = True,
        on_loss: Callable[[PendingEvent, Exception], object] | None = None,
    ) -> None:
        from rootstream_db.cache.forks import watch_forks

        if capacity < 1 or group < 1:
            raise ValidationError("capacity and group are at least 1", field="capacity")
        self._database = database
        self._events = events
        self._capacity = capacity
        self._group = group
        self._linger = linger
        self._block = block
        self._on_loss = on_loss
        self._closing = False
        self._deadline: float | None = None
        self.after_fork()
        watch_forks(self)
        atexit.register(self.close)

    def append(
        self,
        aggregate_type: str,
        aggregate_id: str,
        event: NewEvent,
        *,
        timeout: float | None = None,
    ) -> PendingEvent:
        """Queue an event of an aggregate.

        Args:
            aggregate_type: kind of thing it happened to.
            aggregate_id: which one.
            event: what happened.
            timeout: longest wait for a place in the queue, in seconds.

        Returns:
            The event; its position is known once it is written.

        Raises:
            ValidationError: the event cannot be stored, or not be read back as it is.
            RateLimitedError: the queue is full and stayed so.
            StorageError: the appender is closed.
        """
        (prepared,) = self._events.prepare(aggregate_type, aggregate_id, [event])
        with self._changed:
            if not self._closing and len(self._waiting) >= self._capacity:
                self._wait_for_room(timeout)
            if self._closing:
                raise StorageError("the appender is closed")
            self._waiting.append(prepared)
            self._appended += 1
            self._start()
            self._changed.notify_all()
        return prepared

    def flush(self, timeout: float | None = None) -> AppenderStats:
        """Wait until all events appended before are written or lost, and tell how many.

        Raises:
            StorageTimeoutError: some still waited after ``timeout`` seconds; they go on waiting.
        """
        with self._changed:
            target = self._appended
            self._flush_to = max(self._flush_to, target)
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._done >= target, timeout):
                raise StorageTimeoutError(
                    f"{target - self._done} events still wait for the log", timeout=timeout
                )
            return self._stats()

    def close(self, timeout: float = 30.0) -> AppenderStats:
        """Write what waits and stop; what cannot be written in time is logged and counted as lost.

        If ``waiting`` is not 0 in the answer, a group was on its way when the time was over, and
        whether it arrived is open.
        """
        atexit.unregister(self.close)
        with self._changed:
            if not self._closing:
                self._closing = True
                self._deadline = time.monotonic() + timeout
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(timeout)
        self._give_up(StorageTimeoutError("the appender was closed before they could be written"))
        return self.stats()

    def stats(self) -> AppenderStats:
        """Return what became of the events so far."""
        with self._changed:
            return self._stats()

    def after_fork(self) -> None:
        """Begin empty: what waits is written by the process in which it was appended."""
        self._changed = threading.Condition()
        self._waiting: deque[PendingEvent] = deque()
        self._thread: threading.Thread | None = None
        self._appended = self._written = self._lost = self._flush_to = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _done(self) -> int:
        return self._written + self._lost

    @property
    def _is_late(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _stats(self) -> AppenderStats:
        return AppenderStats(
            appended=self._appended,
            written=self._written,
            lost=self._lost,
            waiting=self._appended - self._done,
        )

    def _wait_for_room(self, timeout: float | None) -> None:
        def has_room() -> bool:
            return self._closing or len(self._waiting) < self._capacity

        if not (self._block and self._changed.wait_for(has_room, timeout)):
            raise RateLimitedError(
                f"{self._capacity} events wait: the log does not keep up", retry_after=self._linger
            )

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._work, name="rootstream-audit-appender", daemon=True
            )
            self._thread.start()

    # ---- what the thread does

    def _work(self) -> None:
        while group := self._next_group():
            self._write(group)
        self._give_up(StorageTimeoutError("the appender was closed before they could be written"))

    def _next_group(self) -> list[PendingEvent]:
        """Return the next events to write; none when it is time to stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            self._changed.wait_for(self._is_group_ready, self._linger)
            size = 0 if self._is_late else min(len(self._waiting), self._group)
            group = [self._waiting.popleft() for _ in range(size)]
            self._changed.notify_all()
        return group

    def _is_group_ready(self) -> bool:
        return self._closing or len(self._waiting) >= self._group or self._flush_to > self._done

    def _write(self, group: Sequence[PendingEvent]) -> None:
        try:
            self._write_patiently(group)
        except (ConflictError, ValidationError) as error:
            if len(group) == 1:
                self._lose(group, error)
                return
            # One of them is refused: the others are not to blame.
            middle = len(group) // 2
            self._write(group[:middle])
            self._write(group[middle:])
        except Exception as error:  # noqa: BLE001 - the thread lives on, whatever it was
            self._lose(group, error)
        else:
            with self._changed:
                self._written += len(group)
                self._changed.notify_all()

    def _write_patiently(self, group: Sequence[PendingEvent]) -> None:
        """Write a group, again and again while the database is out of reach."""
        pause = _FIRST_PAUSE
        while True:
            try:
                self._database.run(
                    lambda work: self._events.append_prepared(work, group), idempotent=True
                )
            except StorageError as error:
                if not error.retryable or self._is_late:
                    raise
                _logger.warning("%d events wait for the log: %s", len(group), error)
            else:
                return
            with self._changed:
                self._changed.wait_for(lambda: self._closing, pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _give_up(self, reason: Exception) -> None:
        with self._changed:
            left = list(self._waiting)
            self._waiting.clear()
        if left:
            self._lose(left, reason)

    def _lose(self, group: Sequence[PendingEvent], reason: Exception) -> None:
        _logger.error(
            "%d events are lost, the first is %s %s: %s",
            len(group),
            group[0].event_type,
            group[0].event_id,
            reason,
        )
        for event in group:
            self._tell_loss(event, reason)
        with self._changed:
            self._lost += len(group)
            self._changed.notify_all()

    def _tell_loss(self, event: PendingEvent, reason: Exception) -> None:
        try:
            if self._on_loss is not None:
                self._on_loss(event, reason)
        except Exception:
            _logger.exception("on_loss failed")
