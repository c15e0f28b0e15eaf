"""Recorded events, and how they come from the server: JSON, ids and times as bytes until wanted.

Turning all fifteen fields of an event into Python's values takes 8 µs. Readers look at a few; the
numbers and texts among them take half of one.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import orjson
import psycopg
from psycopg.abc import Loader
from psycopg.pq import Format
from sqlalchemy import Connection, Select
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.orm import Session

from rootstream_db.errors import StorageError
from rootstream_db.repositories.driver import run_or_else

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""What PostgreSQL counts its microseconds from."""

_JSONB_VERSION: Final = 1
"""The byte before the text of binary jsonb, of the only form there is so far."""


class _Unread:
    """Fields that are read from the server's row when somebody first looks at them."""

    __slots__ = ("_row",)

    if not TYPE_CHECKING:  # for type checkers, a name that is no field is a mistake

        def __getattr__(self, name: str) -> Any:
            # Asked only for what is not there yet: a field comes here once.
            if name not in _LATER:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            place, read, keep = _LATER[name]
            value = self._row[place]
            if value is not None:
                value = read(value)
            keep(self, value)
            return value


@dataclass(frozen=True, slots=True)
class RecordedEvent(_Unread):
    """One event as it stands in the log.

    ``position`` is its place in the log, ``version`` its place in the aggregate; both start at 1
    and have no holes. The repr leaves out what may be personal. ``data`` and ``metadata`` are
    decoded when somebody first looks at them.
    """

    position: int
    version: int
    event_id: uuid.UUID
    aggregate_type: str
    aggregate_id: str
    event_type: str
    schema_version: int
    data: dict[str, Any] = field(repr=False)
    metadata: dict[str, Any] = field(repr=False)
    user_id: int | None
    subject_id: uuid.UUID | None
    correlation_id: str | None
    causation_id: uuid.UUID | None
    occurred_at: datetime
    recorded_at: datetime


def list_recorded(
    session: Session, statement: Select[Any], parameters: Mapping[str, object]
) -> list[RecordedEvent]:
    """Return the events that a statement selects: all their fields, in order.

    Args:
        session: where to ask.
        statement: made once; its text is remembered as long as the program runs.
        parameters: the values of its bound parameters.
    """

    def direct(connection: Connection) -> list[RecordedEvent]:
        driver: Any = connection.connection.driver_connection
        with driver.cursor(binary=True, row_factory=_making) as cursor:
            for name, loader in _loaders():
                cursor.adapters.register_loader(name, loader)
            found: list[RecordedEvent] = cursor.execute(_text(statement), parameters).fetchall()
            return found

    return run_or_else(
        session,
        direct,
        lambda: [RecordedEvent(*row) for row in session.execute(statement, parameters)],
    )


def _making(_cursor: psycopg.Cursor[Any]) -> Callable[[Sequence[Any]], RecordedEvent]:
    return _from_row


def _from_row(row: Sequence[Any]) -> RecordedEvent:
    event = object.__new__(RecordedEvent)
    _keep_row(event, row)
    for place, keep in _AT_ONCE:
        keep(event, row[place])
    return event


@cache
def _text(statement: Select[Any]) -> str:
    return str(statement.compile(dialect=PGDialect_psycopg()))  # type: ignore[no-untyped-call]  # SQLAlchemy leaves dialects untyped


@cache
def _loaders() -> list[tuple[str, type[Loader]]]:
    """Return how values stay as the server sends them: bytes, and times as a number."""
    raw, number = (
        psycopg.adapters.get_loader(psycopg.adapters.types[name].oid, Format.BINARY)
        for name in ("bytea", "int8")
    )
    assert raw is not None  # noqa: S101 - types that psycopg knows
    assert number is not None  # noqa: S101 - as above
    return [("jsonb", raw), ("uuid", raw), ("timestamptz", number)]


def _keeper(owner: type, name: str) -> Callable[[object, object], None]:
    """Return what fills a slot, past the guard of frozen instances."""
    keep: Callable[[object, object], None] = vars(owner)[name].__set__
    return keep


def _json(raw: bytes) -> Any:
    if raw[0] != _JSONB_VERSION:
        raise StorageError(f"PostgreSQL sent jsonb of a form that is not known: {raw[0]}")
    return orjson.loads(raw[1:])


def _uuid(raw: bytes) -> uuid.UUID:
    return uuid.UUID(bytes=raw)


def _time(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "event_id": _uuid,
    "data": _json,
    "metadata": _json,
    "subject_id": _uuid,
    "causation_id": _uuid,
    "occurred_at": _time,
    "recorded_at": _time,
}

_PLACES: Final = {one.name: place for place, one in enumerate(fields(RecordedEvent))}

# What the driver makes Python's values of: where it stands in the row, and what keeps it.
_AT_ONCE: Final = [
    (place, _keeper(RecordedEvent, name)) for name, place in _PLACES.items() if name not in _READERS
]

# What waits until it is wanted: where it stands, what reads it, and what keeps it.
_LATER: Final = {
    name: (_PLACES[name], read, _keeper(RecordedEvent, name)) for name, read in _READERS.items()
}

_keep_row: Final = _keeper(_Unread, "_row")
