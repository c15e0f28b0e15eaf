"""Reading one row by its key: ours, psycopg's own, and the ORM as it comes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import ExitStack

from psycopg.rows import RowFactory, dict_row, tuple_row
from psycopg_pool import ConnectionPool
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from rootstream_db import RootStream
from rootstream_db.models import User
from scripts.benchmarks.contest import Rival, compete
from scripts.benchmarks.foundation.rows import (
    COLUMNS,
    SELECT,
    address,
    bare_engine,
    connect,
    make_users,
    turns,
)
from scripts.benchmarks.foundation.scale import Scale
from scripts.benchmarks.report import Report, Total

ROWS = 1000
RAW_AIM = 0.6
Look = Callable[[int], object]


def measure(rootstream: RootStream, scale: Scale, report: Report) -> None:
    """Measure reads without and with a transaction."""
    ids = make_users(rootstream, "read", ROWS)
    with ExitStack() as stack:
        for title, autocommit in (("read by key, autocommit", True), ("read by key, txn", False)):
            rivals = [
                *(_ours(rootstream, autocommit=autocommit)),
                *(_psycopg(rootstream, stack, autocommit=autocommit)),
                _orm(rootstream, stack, autocommit=autocommit),
            ]
            report.totals.append(Total(f"{title}: rows as psycopg sees them", *_seen(rivals, ids)))
            counters = [_Counter(look, ids) for _, look, _ in rivals]
            contestants = [
                Rival(name, counter.run, aim)
                for (name, _, aim), counter in zip(rivals, counters, strict=True)
            ]
            rows = compete(contestants, rounds=scale.rounds, operations=scale.operations)
            report.add_contest(
                title, rows, "psycopg holds its connection; ours takes one each time"
            )
            asked = sum(counter.asked for counter in counters)
            found = sum(counter.found for counter in counters)
            report.totals.append(Total(f"{title}: rows found", asked, found))


_Named = tuple[str, Look, float | None]


class _Counter:
    """Looks rows up and counts the ones that are there."""

    def __init__(self, look: Look, ids: list[int]) -> None:
        self._look = look
        self._ids = turns(ids)
        self.asked = 0
        self.found = 0

    def run(self, operations: int) -> None:
        """Look up that many rows."""
        look = self._look
        for key in itertools.islice(self._ids, operations):
            self.found += look(key) is not None
        self.asked += operations


def _ours(rootstream: RootStream, *, autocommit: bool) -> list[_Named]:
    database = rootstream.database

    def read(key: int) -> object:
        with database.read() as work:
            return work.users.get(key)

    def transaction(key: int) -> object:
        with database.transaction() as work:
            return work.users.get(key)

    if autocommit:
        return [("read(): users.get", read, None)]
    return [("transaction(): users.get", transaction, None)]


def _psycopg(rootstream: RootStream, stack: ExitStack, *, autocommit: bool) -> list[_Named]:
    def look(factory: RowFactory[object]) -> Look:
        connection = stack.enter_context(connect(rootstream, autocommit=autocommit))
        cursor = connection.cursor(row_factory=factory)

        def find(key: int) -> object:
            row = cursor.execute(SELECT, (key,)).fetchone()
            if not autocommit:
                connection.commit()
            return row

        return find

    pool = stack.enter_context(
        ConnectionPool(
            address(rootstream), min_size=1, max_size=1, kwargs={"autocommit": autocommit}
        )
    )

    def pooled(key: int) -> object:
        # Leaving the block commits, as ours does.
        with pool.connection() as connection:
            return connection.execute(SELECT, (key,)).fetchone()

    return [
        ("psycopg, tuple", look(tuple_row), RAW_AIM),
        ("psycopg, dict", look(dict_row), None),
        ("psycopg_pool, tuple", pooled, None),
    ]


def _orm(rootstream: RootStream, stack: ExitStack, *, autocommit: bool) -> _Named:
    options = {"isolation_level": "AUTOCOMMIT"} if autocommit else {}
    engine = bare_engine(rootstream, **options)
    stack.callback(engine.dispose)
    return ("bare ORM, Session.get", _committed_get(engine), 1.0)


def _committed_get(engine: Engine) -> Look:
    def find(key: int) -> object:
        with Session(engine, expire_on_commit=False) as session, session.begin():
            return session.get(User, key)

    return find


def _seen(rivals: list[_Named], ids: list[int]) -> tuple[object, object]:
    """Return what psycopg says of one row, and the rows of others that say something else."""
    by_name = {name: _values(look(ids[0])) for name, look, _ in rivals}
    expected = by_name["psycopg, tuple"]
    return [], [name for name, values in by_name.items() if values != expected]


def _values(row: object) -> tuple[object, ...]:
    if isinstance(row, User):
        return tuple(getattr(row, name) for name in COLUMNS)
    if isinstance(row, dict):
        return tuple(row.values())
    return tuple(row) if isinstance(row, tuple) else (row,)
