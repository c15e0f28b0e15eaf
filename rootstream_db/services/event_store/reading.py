"""Reading the log: in order, page by page, however long it is."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Final

from rootstream_db.database import Database
from rootstream_db.errors import ValidationError
from rootstream_db.repositories.event_archives import ArchivePart
from rootstream_db.repositories.events import Cursor, LogHead, RecordedEvent
from rootstream_db.services.event_archive.reader import ArchiveReader
from rootstream_db.services.event_store.following import Patience, Tail, follow, require_same_log
from rootstream_db.services.event_store.payload import check_time
from rootstream_db.services.event_store.queries import (
    AggregateQuery,
    EventQuery,
    LogQuery,
    SubjectQuery,
    UserQuery,
    archived_pages,
    fetch,
)
from rootstream_db.services.event_store.upcasting import Upcasters
from rootstream_db.services.event_store.wakeup import Wakeup
from rootstream_db.unit_of_work import UnitOfWork

_BATCH: Final = 1000
"""Events fetched at a time: larger pages use more memory and are not faster."""


class EventReader:
    """Reads events in order.

    With ``work`` it sees what that unit has written; without, it makes short reads of its own, one
    for each page, so that a slow reader holds no connection.

    Args:
        database: where reads without a unit of work go.
        wakeup: tells ``follow`` about new events; without it, it polls.
        archive: reads archived events; without it they are out of reach.

    Attributes:
        upcasters: bring events of older forms up to date as they are read.
    """

    def __init__(
        self,
        database: Database,
        *,
        wakeup: Wakeup | None = None,
        archive: ArchiveReader | None = None,
    ) -> None:
        self._database = database
        self._wakeup = wakeup
        self._archive = archive or ArchiveReader()
        self.upcasters = Upcasters()

    def read(
        self,
        aggregate_type: str,
        aggregate_id: str,
        *,
        after_version: int = 0,
        to_version: int | None = None,
        work: UnitOfWork | None = None,
        batch: int = _BATCH,
    ) -> Iterator[RecordedEvent]:
        """Yield the events of one aggregate in order, a page at a time."""
        query = AggregateQuery(
            aggregate_type=aggregate_type, aggregate_id=aggregate_id, to_version=to_version
        )
        return self._upcast(self._paged(query, after=after_version, batch=batch, work=work))

    def read_all(
        self,
        *,
        after_position: int | Cursor = 0,
        to_position: int | None = None,
        types: Collection[str] | None = None,
        as_written: bool = False,
        work: UnitOfWork | None = None,
        batch: int = _BATCH,
    ) -> Iterator[RecordedEvent]:
        """Yield all events in the order of the log, a page at a time, up to its present end.

        Who remembers the position of the last event and continues after it sees every event once:
        positions become visible in order and without holes.

        Args:
            after_position: where the last reading ended; a ``Cursor`` also notices a restore made
                since.
            to_position: the last position wanted; default: the end.
            types: event types wanted; default: all.
            as_written: leave events in the form in which they were written.
            work: read inside this unit.
            batch: events of a page.

        Raises:
            LogDivergedError: the log was restored to a time before the cursor.
        """
        if isinstance(after_position, Cursor):
            require_same_log(self.head(work=work), after_position)
            after_position = after_position.position
        query = LogQuery(to_position=to_position, types=types)
        found = self._paged(query, after=after_position, batch=batch, work=work)
        return found if as_written else self._upcast(found)

    def follow(
        self,
        *,
        after_position: int | Cursor = 0,
        types: Collection[str] | None = None,
        stop: threading.Event | None = None,
        idle: float | None = None,
        batch: int = _BATCH,
    ) -> Iterator[RecordedEvent]:
        """Yield all events in the order of the log and wait for more at its end.

        Every event comes once, also across lost connections and restarts of the servers, which are
        waited out. New events arrive after milliseconds where Redis carries the word, and within a
        second otherwise. Nothing is held while it waits, and a page at most in memory.

        Args:
            after_position: where the last reading ended; a ``Cursor`` also notices a restore made
                since.
            types: event types wanted; default: all.
            stop: ends the iteration at once when set, also in the middle of a page.
            idle: ends the iteration after so many seconds without a new event; default: never.
            batch: events of a page.

        Raises:
            LogDivergedError: the log was restored to an earlier time, before or meanwhile.
            StorageError: the database stayed out of reach for ``idle`` seconds.
        """
        if batch < 1:
            raise ValidationError("batch is at least 1", field="batch")
        found = follow(
            Tail(self._database, self._archive, after_position, types=types, batch=batch),
            Patience(stop or threading.Event(), idle=idle),
            self._wakeup,
        )
        return (self.upcasters.apply(event) for event in found)

    def listening(self) -> AbstractContextManager[threading.Event]:
        """Return an event that is set whenever there may be new events.

        It is a hint: without Redis it is never set, so look now and then all the same.
        """
        return nullcontext(threading.Event()) if self._wakeup is None else self._wakeup.listening()

    def head(self, *, work: UnitOfWork | None = None) -> LogHead:
        """Return where the log ends."""
        with self._reading(work) as unit:
            return unit.events.get_head()

    def cursor(self, position: int | None = None, *, work: UnitOfWork | None = None) -> Cursor:
        """Return a place in the log that notices a restore: ``position``, or the log's end."""
        head = self.head(work=work)
        return Cursor(head.epoch, head.last_position if position is None else position)

    def audit_trail(
        self,
        user_id: int,
        *,
        after_position: int = 0,
        since: datetime | None = None,
        until: datetime | None = None,
        types: Collection[str] | None = None,
        work: UnitOfWork | None = None,
        batch: int = _BATCH,
    ) -> Iterator[RecordedEvent]:
        """Yield what a user did, in the order of the log, a page at a time.

        From where and on whose behalf stands in the metadata, under ``audit``.

        Args:
            user_id: the account that acted.
            after_position: where the last reading ended.
            since: only what was recorded at this time or later.
            until: only what was recorded before this time.
            types: event types wanted; default: all.
            work: read inside this unit.
            batch: events of a page.

        Raises:
            ValidationError: a time has no time zone.
        """
        for name, instant in (("since", since), ("until", until)):
            if instant is not None:
                check_time(instant, name)
        query = UserQuery(user_id=user_id, since=since, until=until, types=types)
        return self._upcast(self._paged(query, after=after_position, batch=batch, work=work))

    def about(
        self,
        subject_id: uuid.UUID,
        *,
        after_position: int = 0,
        work: UnitOfWork | None = None,
        batch: int = _BATCH,
    ) -> Iterator[RecordedEvent]:
        """Yield the events with personal data of a person, in the order of the log.

        Args:
            subject_id: the person; of an account it is ``User.public_id``.
            after_position: where the last reading ended.
            work: read inside this unit.
            batch: events of a page.
        """
        query = SubjectQuery(subject_id=subject_id)
        return self._upcast(self._paged(query, after=after_position, batch=batch, work=work))

    def _paged(
        self, query: EventQuery, *, after: int, batch: int, work: UnitOfWork | None
    ) -> Iterator[RecordedEvent]:
        if batch < 1:
            raise ValidationError("batch is at least 1", field="batch")
        return self._pages(query, after=after, batch=batch, work=work)

    def _pages(
        self, query: EventQuery, *, after: int, batch: int, work: UnitOfWork | None
    ) -> Iterator[RecordedEvent]:
        while True:
            with self._reading(work) as unit:
                found = fetch(query, unit, self._archive, after=after, limit=batch)
            if isinstance(found, ArchivePart):
                for page in archived_pages(query, self._archive, found, after=after):
                    yield from page
                after = found.until
                continue
            yield from found
            if len(found) < batch:
                return
            after = query.place(found[-1])

    def _upcast(self, events: Iterator[RecordedEvent]) -> Iterator[RecordedEvent]:
        return map(self.upcasters.apply, events) if self.upcasters else events

    def _reading(self, work: UnitOfWork | None) -> AbstractContextManager[UnitOfWork]:
        return self._database.read() if work is None else nullcontext(work)
