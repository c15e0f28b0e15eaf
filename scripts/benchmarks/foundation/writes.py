"""One row written in one transaction: inserted, and loaded and changed."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import ExitStack

from sqlalchemy.orm import Session

from rootstream_db import RootStream
from rootstream_db.models import User
from scripts.benchmarks.contest import Rival, compete
from scripts.benchmarks.foundation.rows import (
    INSERT,
    SELECT,
    UPDATE,
    Held,
    bare_engine,
    connect,
    make_users,
    turns,
)
from scripts.benchmarks.foundation.scale import Scale
from scripts.benchmarks.report import Report, Total

RAW_AIM = 0.8
ROWS = 200
SLOWER = 4
"""Commits to disk in a turn: one for so many reads."""

Insert = Callable[[str], object]
Change = Callable[[int, str], object]


def measure(rootstream: RootStream, scale: Scale, report: Report) -> None:
    """Measure inserts and updates, each committed to disk."""
    with ExitStack() as stack:
        _measure_inserts(rootstream, scale, report, _inserts(rootstream, stack))
        _measure_updates(rootstream, scale, report, _updates(rootstream, stack))


def _measure_inserts(
    rootstream: RootStream, scale: Scale, report: Report, rivals: list[_Inserter]
) -> None:
    title = "insert one row, txn"
    rows = compete(
        [Rival(rival.name, rival.run, rival.aim, rival.renew) for rival in rivals],
        rounds=scale.rounds,
        operations=max(scale.operations // SLOWER, 2),
    )
    report.add_contest(title, rows, "INSERT … RETURNING the generated columns, COMMIT with fsync")
    with connect(rootstream) as connection:
        for rival in rivals:
            found = connection.execute(
                "SELECT count(*) FROM users WHERE username LIKE %s", [f"{rival.prefix}\\_%"]
            ).fetchone()
            report.totals.append(
                Total(f"{title}: rows of {rival.name}", rival.done, found and found[0])
            )


def _measure_updates(
    rootstream: RootStream, scale: Scale, report: Report, rivals: list[_Changer]
) -> None:
    title = "load and change one row, txn"
    rows = compete(
        [Rival(rival.name, rival.run, rival.aim, rival.renew) for rival in rivals],
        rounds=scale.rounds,
        operations=max(scale.operations // SLOWER, 2),
    )
    report.add_contest(title, rows, "SELECT, UPDATE … RETURNING updated_at, COMMIT with fsync")
    with connect(rootstream) as connection:
        for rival in rivals:
            found = connection.execute(
                "SELECT id, display_name FROM users WHERE id = ANY(%s)", [list(rival.last)]
            ).fetchall()
            wrong = [key for key, name in found if rival.last[key] != name]
            report.totals.append(Total(f"{title}: values lost by {rival.name}", [], wrong))


class _Inserter:
    """Inserts accounts and counts them."""

    def __init__(
        self,
        name: str,
        prefix: str,
        insert: Insert,
        *,
        renew: Callable[[], object],
        aim: float | None = None,
    ) -> None:
        self.name = name
        self.renew = renew
        self.prefix = prefix
        self.aim = aim
        self.done = 0
        self._insert = insert

    def run(self, operations: int) -> None:
        """Insert that many."""
        insert, prefix = self._insert, self.prefix
        for number in range(self.done, self.done + operations):
            insert(f"{prefix}_{number}")
        self.done += operations


class _Changer:
    """Changes rows of its own and remembers what should be in them."""

    def __init__(
        self,
        name: str,
        ids: list[int],
        change: Change,
        *,
        renew: Callable[[], object],
        aim: float | None = None,
    ) -> None:
        self.name = name
        self.renew = renew
        self.aim = aim
        self.last: dict[int, str] = {}
        self._ids = turns(ids)
        self._change = change
        self._values = itertools.count()

    def run(self, operations: int) -> None:
        """Change that many rows."""
        for key in itertools.islice(self._ids, operations):
            value = f"name {next(self._values)}"
            self._change(key, value)
            self.last[key] = value


def _inserts(rootstream: RootStream, stack: ExitStack) -> list[_Inserter]:
    database = rootstream.database
    held = Held(rootstream)
    stack.callback(held.close)
    engine = bare_engine(rootstream)
    stack.callback(engine.dispose)

    def ours(name: str) -> None:
        with database.transaction() as work:
            work.users.add(_user(name))

    def raw(name: str) -> None:
        values = (name, f"{name}@example.com", "none", None, None, True, None, None, None, None)
        held.connection.execute(INSERT, values).fetchone()
        held.connection.commit()

    def orm(name: str) -> None:
        with Session(engine, expire_on_commit=False) as session, session.begin():
            session.add(_user(name))

    return [
        _Inserter("ours, users.add", "insert_ours", ours, renew=database.engine.dispose),
        _Inserter("psycopg", "insert_raw", raw, renew=held.renew, aim=RAW_AIM),
        _Inserter("bare ORM, Session.add", "insert_orm", orm, renew=engine.dispose, aim=1.0),
    ]


def _updates(rootstream: RootStream, stack: ExitStack) -> list[_Changer]:
    database = rootstream.database
    held = Held(rootstream)
    stack.callback(held.close)
    engine = bare_engine(rootstream)
    stack.callback(engine.dispose)

    def ours(key: int, value: str) -> None:
        with database.transaction() as work:
            work.users.get_one(key).display_name = value

    def raw(key: int, value: str) -> None:
        held.connection.execute(SELECT, (key,)).fetchone()
        held.connection.execute(UPDATE, (value, key)).fetchone()
        held.connection.commit()

    def orm(key: int, value: str) -> None:
        with Session(engine, expire_on_commit=False) as session, session.begin():
            session.get_one(User, key).display_name = value

    rows = {name: make_users(rootstream, f"change_{name}", ROWS) for name in ("ours", "raw", "orm")}
    return [
        _Changer("ours, users.get", rows["ours"], ours, renew=database.engine.dispose),
        _Changer("psycopg", rows["raw"], raw, renew=held.renew, aim=RAW_AIM),
        _Changer("bare ORM, Session.get", rows["orm"], orm, renew=engine.dispose, aim=1.0),
    ]


def _user(name: str) -> User:
    return User(username=name, email=f"{name}@example.com", password_hash="none")  # noqa: S106 - of nobody
