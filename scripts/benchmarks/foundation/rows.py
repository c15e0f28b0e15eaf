"""The rows that rivals read and write, and the statements of the one without SQLAlchemy."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import psycopg
from sqlalchemy import Engine, create_engine

from rootstream_db import RootStream
from rootstream_db.database.engine import sqlalchemy_url
from rootstream_db.models import User

COLUMNS = tuple(column.key for column in User.__table__.columns)
"""Every column, in the order in which the ORM asks for them."""

SELECT = f"SELECT {', '.join(COLUMNS)} FROM users WHERE id = %s"  # noqa: S608 - names of columns
INSERT = """
INSERT INTO users (username, email, password_hash, display_name, avatar_url, is_active,
    verified_at, password_changed_at, last_login_at, deactivated_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
RETURNING id, public_id, created_at, updated_at
"""
UPDATE = "UPDATE users SET display_name = %s WHERE id = %s RETURNING updated_at"


def address(rootstream: RootStream) -> str:
    """Return where PostgreSQL is, as libpq has it."""
    url = rootstream.settings.database.url
    if url is None:
        raise ValueError("the benchmark needs a PostgreSQL")
    return url.get_secret_value()


def connect(rootstream: RootStream, *, autocommit: bool = False) -> psycopg.Connection[Any]:
    """Open a connection of psycopg's own."""
    return psycopg.connect(address(rootstream), autocommit=autocommit)


class Held:
    """One connection of psycopg's own, kept until it is renewed.

    Attributes:
        connection: the connection at present.
    """

    def __init__(self, rootstream: RootStream, *, autocommit: bool = False) -> None:
        self._open = partial(connect, rootstream, autocommit=autocommit)
        self.connection = self._open()

    def renew(self) -> None:
        """Connect anew."""
        self.close()
        self.connection = self._open()

    def close(self) -> None:
        """Disconnect."""
        self.connection.close()


def bare_engine(rootstream: RootStream, **options: Any) -> Engine:
    """Return an engine as SQLAlchemy makes it."""
    url = rootstream.settings.database.url
    if url is None:
        raise ValueError("the benchmark needs a PostgreSQL")
    return create_engine(sqlalchemy_url(url), **options)


def make_users(rootstream: RootStream, prefix: str, count: int) -> list[int]:
    """Insert accounts and return their ids."""
    names = [f"{prefix}_{number}" for number in range(count)]
    with connect(rootstream) as connection:
        rows = connection.execute(
            "INSERT INTO users (username, email, password_hash) "
            "SELECT name, name || '@example.com', 'none' FROM unnest(%s::text[]) AS name "
            "RETURNING id",
            [names],
        ).fetchall()
    return [row[0] for row in rows]


def turns(ids: list[int]) -> Iterator[int]:
    """Return the ids over and over, never the same twice in a row."""
    return itertools.cycle(ids)
