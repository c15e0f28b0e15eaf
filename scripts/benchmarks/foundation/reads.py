"""Reading one row by its key: ours, psycopg's own, and the ORM as it comes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from psycopg.rows import RowFactory, dict_row, tuple_row
from psycopg_pool import ConnectionPool
from sqlalchemy.orm import Session

from rootstream_db import RootStream
from rootstream_db.models import User
from scripts.benchmarks.contest import Rival, compete
from scripts.benchmarks.foundation.rows import (
    COLUMNS,
    SELECT,
    Held,
    address,
    bare_engine,
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
    _compare(rootstream, scale, report, autocommit=True)
    _compare(rootstream, scale, report, autocommit=False)


def _compare(rootstream: RootStream, scale: Scale, report: Report, *, autocommit: bool) -> None:
    title = "read by key, autocommit" if autocommit else "read by key, txn"
    ids = make_users(rootstream, "read" if autocommit else "read_txn", ROWS)
    with ExitStack() as stack:
        lookers = [
            _ours(rootstream, autocommit=autocommit),
            *_psycopg(rootstream, stack, autocommit=autocommit),
            _orm(rootstream, stack, autocommit=autocommit),
        ]
        seen = {_values(looker.look(ids[0])) for looker in lookers}
        rivals = [looker.over(ids).rival for looker in lookers]
        rows = compete(rivals, rounds=scale.rounds, operations=scale.operations)
    report.add_contest(title, rows, "all 14 columns; ours and the ORM return an object")
    report.totals.append(Total(f"{title}: different rows seen for one key", 1, len(seen)))
    asked, found = (sum(getattr(one, of) for one in lookers) for of in ("asked", "found"))
    report.totals.append(Total(f"{title}: rows found", asked, found))


class _Looker:
    """Looks rows up in one way, and counts the ones that are there."""

    def __init__(
        self, name: str, look: Look, *, renew: Callable[[], object], aim: float | None = None
    ) -> None:
        self.look = look
        self.asked = 0
        self.found = 0
        self.rival = Rival(name, self._run, aim, renew)
        self._ids: Iterator[int] = iter(())

    def over(self, ids: list[int]) -> _Looker:
        """Look up these."""
        self._ids = turns(ids)
        return self

    def _run(self, operations: int) -> None:
        look = self.look
        for key in itertools.islice(self._ids, operations):
            self.found += look(key) is not None
        self.asked += operations


def _ours(rootstream: RootStream, *, autocommit: bool) -> _Looker:
    database = rootstream.database

    def read(key: int) -> object:
        with database.read() as work:
            return work.users.get(key)

    def transaction(key: int) -> object:
        with database.transaction() as work:
            return work.users.get(key)

    if autocommit:
        return _Looker("ours, read()", read, renew=database.engine.dispose)
    return _Looker("ours, transaction()", transaction, renew=database.engine.dispose)


def _held(
    rootstream: RootStream, stack: ExitStack, *, autocommit: bool, factory: RowFactory[object]
) -> tuple[Look, Callable[[], None]]:
    held = Held(rootstream, autocommit=autocommit)
    stack.callback(held.close)

    def look(key: int) -> object:
        connection = held.connection
        row = connection.cursor(row_factory=factory).execute(SELECT, (key,)).fetchone()
        if not autocommit:
            connection.commit()
        return row

    return look, held.renew


def _psycopg(rootstream: RootStream, stack: ExitStack, *, autocommit: bool) -> list[_Looker]:
    held, renew = _held(rootstream, stack, autocommit=autocommit, factory=tuple_row)
    named, renew_named = _held(rootstream, stack, autocommit=autocommit, factory=dict_row)
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
        _Looker("psycopg, connection held, tuple", held, renew=renew, aim=RAW_AIM),
        _Looker("psycopg, connection held, dict", named, renew=renew_named),
        _Looker("psycopg_pool each time, tuple", pooled, renew=pool.drain, aim=RAW_AIM),
    ]


def _orm(rootstream: RootStream, stack: ExitStack, *, autocommit: bool) -> _Looker:
    options = {"isolation_level": "AUTOCOMMIT"} if autocommit else {}
    engine = bare_engine(rootstream, **options)
    stack.callback(engine.dispose)

    def look(key: int) -> object:
        with Session(engine, expire_on_commit=False) as session, session.begin():
            return session.get(User, key)

    return _Looker("bare ORM, Session.get", look, renew=engine.dispose, aim=1.0)


def _values(row: object) -> tuple[object, ...]:
    if isinstance(row, User):
        return tuple(getattr(row, name) for name in COLUMNS)
    if isinstance(row, dict):
        return tuple(row.values())
    return tuple(row) if isinstance(row, tuple) else (row,)
