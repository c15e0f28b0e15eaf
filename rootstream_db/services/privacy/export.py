"""The copy of everything about a person: one JSON object, made piece by piece."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import orjson

from rootstream_db.models.users import User
from rootstream_db.repositories.events import RecordedEvent
from rootstream_db.repositories.personal_records import (
    SECTIONS,
    PersonalRecordRepository,
    Section,
)
from rootstream_db.services.event_store.personal import AUDIT, PERSONAL

if TYPE_CHECKING:
    from rootstream_db.clock import Clock
    from rootstream_db.database import Database
    from rootstream_db.services.event_store import EventStore

FORMAT: Final = 1
"""Version of the document's form."""

BATCH: Final = 500
"""Rows read at a time."""


class Exporter:
    """Reads in short units of their own: a slow receiver holds no connection."""

    def __init__(self, database: Database, events: EventStore, clock: Clock) -> None:
        self._database = database
        self._events = events
        self._clock = clock

    def document(self, user_id: int) -> Iterator[bytes]:
        """Return the pieces of the document.

        Raises:
            NotFoundError: there is no such account.
        """
        with self._database.read() as work:
            user = work.users.get_one(user_id)
        return self._pieces(user)

    def _pieces(self, user: User) -> Iterator[bytes]:
        head = {"format": FORMAT, "exported_at": self._clock(), "subject_id": user.public_id}
        yield orjson.dumps(head)[:-1]
        for section in SECTIONS:
            yield b',\n"%s": ' % section.name.encode()
            yield from _array(self._rows(section, user.id))
        yield b',\n"events": '
        yield from _array(self._events_of(user))
        yield b"}\n"

    def _rows(self, section: Section, user_id: int) -> Iterator[dict[str, Any]]:
        after: tuple[Any, ...] | None = None
        while True:
            with self._database.read() as work:
                records = PersonalRecordRepository(work.session)
                rows, after = records.list_rows(section, user_id, after=after, limit=BATCH)
            yield from rows
            if after is None:
                return

    def _events_of(self, user: User) -> Iterator[dict[str, Any]]:
        """Yield what the person did, what happened to the account, what else is about them."""
        merged = heapq.merge(
            self._events.audit_trail(user.id),
            self._events.read("User", str(user.id)),
            self._events.about(user.public_id),
            key=attrgetter("position"),
        )
        last, page = 0, list[RecordedEvent]()
        for event in merged:
            if event.position == last:
                continue
            last = event.position
            page.append(event)
            if len(page) == BATCH:
                yield from self._opened(page, user)
                page = []
        yield from self._opened(page, user)

    def _opened(self, page: list[RecordedEvent], user: User) -> Iterator[dict[str, Any]]:
        for event, personal in zip(page, self._events.personal_of_many(page), strict=True):
            origin = personal.pop(AUDIT, {})
            yield {
                "position": event.position,
                "type": event.event_type,
                "about": f"{event.aggregate_type}/{event.aggregate_id}",
                "occurred_at": event.occurred_at,
                "data": event.data,
                "metadata": _without_sealed(event.metadata),
                # What it says about others is theirs.
                "personal": personal if event.subject_id == user.public_id else {},
                "origin": origin if event.user_id == user.id else {},
            }


def _without_sealed(metadata: dict[str, Any]) -> dict[str, Any]:
    hidden = {PERSONAL, AUDIT}
    return {name: value for name, value in metadata.items() if name not in hidden}


def _array(rows: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    separator = b"["
    for row in rows:
        yield separator + orjson.dumps(row, default=_PLAIN)
        separator = b",\n"
    yield b"[]" if separator == b"[" else b"]"


_PLAIN: Final[Callable[[object], object]] = str
"""Decimals, intervals and addresses have a text that says all of it."""
