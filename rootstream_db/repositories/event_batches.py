"""Append a batch of events: the one statement that writes the log, and the form it takes."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, NamedTuple

import psycopg
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from rootstream_db.repositories.driver import cursor_of

APPEND: Final = """
    SELECT events, position, version, recorded_at, duplicate
    FROM append_events(
        %s::smallint, %s::text[], %s::text[], %s::bigint[], %s::integer[], %s::uuid[], %s::text[],
        %s::smallint[], %s::json, %s::json, %s::bigint[], %s::uuid[], %s::text[], %s::uuid[],
        %s::timestamptz[]
    )
"""
"""Takes the number of the log and the columns of an ``EventBatch``; gives rows of ``Placed``."""


class EventBatch(NamedTuple):
    """Events as the function ``append_events`` takes them: columns, as PostgreSQL writes arrays.

    Text, because psycopg makes arrays of Python lists in Python, which costs more than the rest.
    """

    types: str
    ids: str
    expected: str
    counts: str
    event_ids: str
    event_types: str
    schema_versions: str
    data: str
    metadata: str
    user_ids: str
    subject_ids: str
    correlation_ids: str
    causation_ids: str
    occurred_at: str


class Placed(NamedTuple):
    """Where the next so many events of a batch stand: from that position and version on."""

    events: int
    position: int
    version: int
    recorded_at: datetime
    duplicate: bool


def append(session: Session, batch: EventBatch, *, log_id: int) -> list[Placed]:
    """Append a batch; what comes back is in its order."""
    parameters = (log_id, *batch)
    connection = _alone(session)
    rows = None if connection is None else _append_alone(connection, parameters)
    if rows is None:
        rows = session.connection().exec_driver_sql(APPEND, parameters).all()
    return [Placed(*row) for row in rows]


def _alone(session: Session) -> Connection | None:
    """Return the session's connection if a statement on it is a transaction of its own."""
    bind = session.bind
    if not isinstance(bind, Connection) or bind.in_transaction():
        return None
    driver: Any = bind.connection.driver_connection
    return bind if driver is not None and driver.autocommit else None


def _append_alone(connection: Connection, parameters: tuple[object, ...]) -> Any:
    """Append past SQLAlchemy, which would begin and end a transaction that is none: 100 µs."""
    try:
        return cursor_of(connection).execute(APPEND, parameters).fetchall()
    except psycopg.OperationalError:
        driver: Any = connection.connection.driver_connection
        if driver.closed:
            # SQLAlchemy meets the same failure and does what follows from it, for the whole pool.
            return None
        raise
    except psycopg.errors.ReadOnlySqlTransaction:
        # Likewise: all connections lead to a server that was demoted. Nothing was written.
        return None
