"""Statements made on the driver's own connection, where SQLAlchemy's way costs more than they do.

Its execution events do not see them. Failures that change what is true of the connection are left
for SQLAlchemy to meet: it knows what follows for the session and for the pool.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import psycopg
from sqlalchemy import Connection, PoolProxiedConnection
from sqlalchemy.orm import Session

Found = TypeVar("Found")

_CURSOR: Final = "rootstream_cursor"
"""Where a connection keeps a cursor for these statements; making one each time costs 16 µs."""


def connection_of(session: Session) -> Connection:
    """Return the connection of a session; one that is in autocommit begins nothing."""
    bind = session.bind
    if isinstance(bind, Connection) and not bind.in_transaction():
        driver: Any = bind.connection.driver_connection
        if driver is not None and driver.autocommit:
            # The session would begin, and end, a transaction that is none: 25 µs.
            return bind
    return session.connection()


def run_or_else(
    session: Session, direct: Callable[[Connection], Found], otherwise: Callable[[], Found]
) -> Found:
    """Return what ``direct`` finds, or what ``otherwise`` does where the driver cannot go on.

    Args:
        session: whose connection it is about.
        direct: asks the driver.
        otherwise: asks SQLAlchemy the same. It is called when the connection was lost or a value
            could not be sent, and meets that failure itself.
    """
    connection = connection_of(session)
    try:
        return direct(connection)
    except (psycopg.Error, UnicodeError) as error:
        if isinstance(error, psycopg.Error) and not connection.connection.driver_connection.closed:  # type: ignore[union-attr]  # it has just been used
            raise
    return otherwise()


def cursor_of(connection: Connection | PoolProxiedConnection) -> psycopg.Cursor[Any]:
    """Return the cursor of a connection for statements whose rows are fetched at once."""
    cursor: psycopg.Cursor[Any] | None = connection.info.get(_CURSOR)
    if cursor is None:
        lent = connection.connection if isinstance(connection, Connection) else connection
        driver: Any = lent.driver_connection
        cursor = connection.info[_CURSOR] = driver.cursor()
    return cursor
