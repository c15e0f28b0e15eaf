"""Reading the log: in order, page by page, however long it is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from operator import attrgetter
from typing import Final

from rootstream_db.database import Database
from rootstream_db.errors import ValidationError
from rootstream_db.repositories.events import EventRepository, RecordedEvent
from rootstream_db.unit_of_work import UnitOfWork

_Page = Callable[[EventRepository, int], Sequence[RecordedEvent]]

_BATCH: Final = 1000
"""Events fetched at a time: larger pages use more memory and are not faster."""


class EventReader:
    """Reads events in order.

    With ``work`` it sees what that unit has written; without, it makes short reads of its own, one
    for each page, so that a slow reader holds no connection.

    Args:
        database: where reads without a unit of work go.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

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

        def page(events: EventRepository, after: int) -> Sequence[RecordedEvent]:
            return events.list_of_aggregate(
                aggregate_type,
                aggregate_id,
                after_version=after,
                to_version=to_version,
                limit=batch,
            )

        return self._paged(page, "version", after=after_version, batch=batch, work=work)

    def read_all(
        self,
        *,
        after_position: int = 0,
        types: Collection[str] | None = None,
        work: UnitOfWork | None = None,
        batch: int = _BATCH,
    ) -> Iterator[RecordedEvent]:
        """Yield all events in the order of the log, a page at a time, up to its present end.

        Who remembers the position of the last event and continues after it sees every event once:
        positions become visible in order and without holes.

        Args:
            after_position: where the last reading ended.
            types: event types wanted; default: all.
            work: read inside this unit.
            batch: events of a page.
        """

        def page(events: EventRepository, after: int) -> Sequence[RecordedEvent]:
            return events.list_all(after_position=after, types=types, limit=batch)

        return self._paged(page, "position", after=after_position, batch=batch, work=work)

    def audit_trail(
        self,
        user_id: int,
        *,
        after_position: int = 0,
        work: UnitOfWork | None = None,
        batch: int = _BATCH,
    ) -> Iterator[RecordedEvent]:
        """Yield what a user did, in the order of the log."""

        def page(events: EventRepository, after: int) -> Sequence[RecordedEvent]:
            return events.list_of_user(user_id, after_position=after, limit=batch)

        return self._paged(page, "position", after=after_position, batch=batch, work=work)

    def _paged(
        self, page: _Page, key: str, *, after: int, batch: int, work: UnitOfWork | None
    ) -> Iterator[RecordedEvent]:
        if batch < 1:
            raise ValidationError("batch is at least 1", field="batch")
        return self._pages(page, attrgetter(key), after=after, batch=batch, work=work)

    def _pages(
        self,
        page: _Page,
        key: Callable[[RecordedEvent], int],
        *,
        after: int,
        batch: int,
        work: UnitOfWork | None,
    ) -> Iterator[RecordedEvent]:
        while True:
            with self._reading(work) as unit:
                found = page(unit.events, after)
            yield from found
            if len(found) < batch:
                return
            after = key(found[-1])

    def _reading(self, work: UnitOfWork | None) -> AbstractContextManager[UnitOfWork]:
        return self._database.read() if work is None else nullcontext(work)
