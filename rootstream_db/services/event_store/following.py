"""Following the log: read to its end, wait, read on; nothing missed and nothing twice."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Final

from rootstream_db.errors import LogDivergedError, StorageError
from rootstream_db.repositories.event_archives import ArchivePart
from rootstream_db.repositories.events import Cursor, LogHead, RecordedEvent
from rootstream_db.services.event_store.queries import LogQuery, archived_pages, fetch

if TYPE_CHECKING:
    from rootstream_db.database import Database
    from rootstream_db.services.event_archive import ArchiveReader
    from rootstream_db.services.event_store.wakeup import Wakeup

FIRST_WAIT: Final = 0.05
"""Seconds until the first look after the last new event."""

LONGEST_WAIT: Final = 1.0
"""Seconds between two looks when nothing happens."""

_SLICE: Final = 0.1  # how long ``stop`` may go unnoticed

_logger: Final = logging.getLogger(__name__)


def follow(tail: Tail, patience: Patience, wakeup: Wakeup | None) -> Iterator[RecordedEvent]:
    """Yield what the tail finds until the patience is over."""
    with wakeup.listening() if wakeup is not None else nullcontext(threading.Event()) as grown:
        while not patience.stop.is_set():
            found = _look(tail, patience)
            for event in found:
                if patience.stop.is_set():
                    return
                yield event
            if found:
                patience.renew()
            elif not patience.wait(grown):
                return


def require_same_log(head: LogHead, cursor: Cursor) -> None:
    """Refuse a cursor that does not belong to the log as it is.

    Raises:
        LogDivergedError: the log has another epoch, or ends before the cursor.
    """
    if head.epoch != cursor.epoch:
        reason = "it was restored to an earlier time"
    elif head.last_position < cursor.position:
        reason = f"it ends at position {head.last_position}"
    else:
        return
    raise LogDivergedError(
        f"the event log is not the one read up to position {cursor.position}: {reason}; build what "
        "was derived from it anew",
        position=cursor.position,
        epoch=cursor.epoch,
        last_position=head.last_position,
        current_epoch=head.epoch,
    )


class Tail:
    """A reader's place in the log, moved on page by page.

    It reads up to the end it knows and then looks where the end is now: waiting costs one row
    a look, and events of other types are passed by once.
    """

    def __init__(
        self,
        database: Database,
        archive: ArchiveReader,
        after: int | Cursor,
        *,
        types: Collection[str] | None,
        batch: int,
    ) -> None:
        self._database = database
        self._archive = archive
        self._types = types
        self._batch = batch
        self._epoch = after.epoch if isinstance(after, Cursor) else None
        self._position = after.position if isinstance(after, Cursor) else after
        self._end = 0

    def page(self) -> Sequence[RecordedEvent]:
        """Return the next events, or nothing."""
        while True:
            with self._database.read() as unit:
                if self._position >= self._end:
                    self._move_end(unit.events.get_head())
                if self._position == self._end:
                    return ()
                query = LogQuery(to_position=self._end, types=self._types)
                found = fetch(query, unit, self._archive, after=self._position, limit=self._batch)
            if not isinstance(found, ArchivePart):
                self._position = found[-1].position if len(found) == self._batch else self._end
                return found
            archived = self._archived(query, found)
            if archived:
                return archived

    def _archived(self, query: LogQuery, part: ArchivePart) -> Sequence[RecordedEvent]:
        """Return the next wanted events of a file; if it has none, the file is passed by."""
        with closing(archived_pages(query, self._archive, part, after=self._position)) as pages:
            found = next(pages, None)
        self._position = found[-1].position if found else min(part.until, self._end)
        return found or ()

    def _move_end(self, head: LogHead) -> None:
        if self._epoch is None:
            self._epoch = head.epoch
        require_same_log(head, Cursor(self._epoch, self._position))
        self._end = head.last_position


class Patience:
    """How long to wait for the next look, and when to give up.

    Args:
        stop: give up when it is set.
        idle: give up after so many seconds without news; None for never.
        longest: seconds between two looks when nothing happens; default: ``LONGEST_WAIT``.
    """

    def __init__(
        self, stop: threading.Event, *, idle: float | None = None, longest: float | None = None
    ) -> None:
        self.stop = stop
        self.is_troubled = False
        self._longest = LONGEST_WAIT if longest is None else longest
        self._idle = idle
        self.renew()

    @property
    def is_over(self) -> bool:
        """Whether nothing came for too long."""
        return self._idle is not None and time.monotonic() - self._since >= self._idle

    def renew(self) -> None:
        """Begin to wait anew: something came."""
        self._since = time.monotonic()
        self._wait = min(FIRST_WAIT, self._longest)

    def wait(self, grown: threading.Event) -> bool:
        """Wait until it is time to look again; False to give up."""
        until = time.monotonic() + self._wait
        self._wait = min(2 * self._wait, self._longest)
        while not (self.stop.is_set() or self.is_over):
            left = until - time.monotonic()
            if left <= 0:
                return True
            if grown.wait(min(left, _SLICE)):
                grown.clear()
                self._wait = min(FIRST_WAIT, self._longest)
                return True
        return False


def _look(tail: Tail, patience: Patience) -> Sequence[RecordedEvent]:
    """Return the next page; nothing while the database is out of reach."""
    try:
        found = tail.page()
    except StorageError as error:
        if not error.retryable or patience.is_over:
            raise
        if not patience.is_troubled:
            _logger.warning("following the event log waits for the database: %s", error)
        patience.is_troubled = True
        return ()
    patience.is_troubled = False
    return found
