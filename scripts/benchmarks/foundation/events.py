"""Appending events, one and a hundred to a transaction, against rows of a plain table."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg

from rootstream_db import RootStream
from rootstream_db.services.event_store import NewEvent
from scripts.benchmarks.contest import WARM_UP, Rival, compete
from scripts.benchmarks.foundation.rows import connect
from scripts.benchmarks.foundation.scale import Scale
from scripts.benchmarks.report import Report, Total

MANY = 100
DATA = {"bitrate_kbps": 4500, "fps": 60.0, "node": "ingest-1", "note": "as large as most are"}
INSERT = """
INSERT INTO benchmark_event (log_id, position, event_id, aggregate_type, aggregate_id, version,
    event_type, data, occurred_at, row_hash)
VALUES (1, nextval('benchmark_position'), %s, 'Benchmark', 'plain', %s, 'Ticked', %s, now(),
    sha256(''))
"""
Append = Callable[[int], object]


def measure(rootstream: RootStream, scale: Scale, report: Report) -> None:
    """Measure both sizes, and count what was stored."""
    with ExitStack() as stack:
        stack.enter_context(_plain_table(rootstream))
        connection = stack.enter_context(connect(rootstream))
        ours, plain = _ours(rootstream), _Plain(connection)
        appended = 0
        for size, divisor in ((1, 8), (MANY, 40)):
            operations = max(scale.operations // divisor, 2)
            rivals = [
                Rival(f"events.append, {size} a time", _repeated(ours, size)),
                Rival("plain INSERT", _repeated(plain.append, size)),
            ]
            rows = compete(rivals, rounds=scale.rounds, operations=operations)
            report.add_contest(
                f"append {size} a txn",
                rows,
                "plain: same columns and indexes; no versions, dense order, hashes or chain",
            )
            appended += size * (operations * (scale.rounds + 1) + WARM_UP * scale.rounds)
        report.totals.append(Total("events appended", appended, _count(connection, "event_log")))
        report.totals.append(
            Total("plain rows inserted", appended, _count(connection, "benchmark_event"))
        )


def _ours(rootstream: RootStream) -> Append:
    events = rootstream.events

    def append(size: int) -> None:
        with rootstream.transaction() as work:
            if size == 1:
                events.append(work, "Benchmark", "ours", "Ticked", DATA)
            else:
                many = [NewEvent(event_type="Ticked", data=DATA) for _ in range(size)]
                events.append_many(work, "Benchmark", "ours", many)

    return append


class _Plain:
    """Inserts rows with psycopg and keeps the version itself."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._version = 0

    def append(self, size: int) -> None:
        """Insert that many rows and commit."""
        rows = [self._row() for _ in range(size)]
        if size == 1:
            self._connection.execute(INSERT, rows[0])
        else:
            self._connection.cursor().executemany(INSERT, rows)
        self._connection.commit()

    def _row(self) -> tuple[uuid.UUID, int, str]:
        self._version += 1
        return uuid.uuid4(), self._version, json.dumps(DATA)


def _repeated(append: Append, size: int) -> Callable[[int], None]:
    def run(operations: int) -> None:
        for _ in range(operations):
            append(size)

    return run


@contextmanager
def _plain_table(rootstream: RootStream) -> Iterator[None]:
    with connect(rootstream, autocommit=True) as connection:
        connection.execute("CREATE TABLE benchmark_event (LIKE event_log INCLUDING ALL)")
        connection.execute("CREATE SEQUENCE benchmark_position")
        try:
            yield
        finally:
            connection.execute("DROP TABLE benchmark_event")
            connection.execute("DROP SEQUENCE benchmark_position")


def _count(connection: psycopg.Connection[Any], table: str) -> int:
    statement = f"SELECT count(*) FROM {table} WHERE aggregate_type = 'Benchmark'"  # noqa: S608 - a constant
    row = connection.execute(statement).fetchone()
    connection.rollback()
    return int(row[0]) if row else 0
