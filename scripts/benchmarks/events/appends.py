"""Appending 1, 100 and 1,000 events a call, each call committed to disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from rootstream_db import RootStream
from scripts.benchmarks.contest import Rival, compete
from scripts.benchmarks.events.log import append
from scripts.benchmarks.events.rivals import (
    Appender,
    BareOrm,
    EventSourcing,
    EventSourcingApplication,
    Function,
    Plain,
    count_rows,
    rival_schema,
)
from scripts.benchmarks.events.scale import Scale
from scripts.benchmarks.foundation.rows import address, connect
from scripts.benchmarks.report import Report, Total

AIMS = {1: 1.7, 100: 1.5, 1000: 1.4}
"""The least of eventsourcing's rate, by events a call."""

AIMED_AT = (EventSourcingApplication, EventSourcing)
"""Of whose rate."""

FEWER = {1: 1, 100: 4, 1000: 20}
"""How many times fewer calls a turn has."""


class Whole:
    """Ours as an application uses it: a unit of work that appends."""

    name = "ours, unit of work"
    table = "public.event_log"

    def __init__(self, rootstream: RootStream) -> None:
        self._rootstream = rootstream
        self.renew = self.close = rootstream.database.engine.dispose

    def append(self, size: int) -> None:
        """Append in one unit."""
        append(self._rootstream, ("Benchmark", "ours"), size)


def measure(rootstream: RootStream, scale: Scale, report: Report) -> None:
    """Measure all sizes on two levels, and count what everybody stored."""
    with ExitStack() as stack:
        stack.enter_context(rival_schema(rootstream))
        recorder = EventSourcing(address(rootstream))
        leagues: Mapping[str, Sequence[Appender]] = {
            "as applications do": [
                Whole(rootstream),
                EventSourcingApplication(address(rootstream)),
                recorder,
                Plain(rootstream),
                BareOrm(rootstream),
            ],
            "the layer below": [Function(rootstream), recorder],
        }
        rivals = {rival.table: rival for league in leagues.values() for rival in league}
        for rival in rivals.values():
            stack.callback(rival.close)
        connection = stack.enter_context(connect(rootstream))
        before = {table: count_rows(connection, table) for table in rivals}
        appended: Counter[str] = Counter()
        for size in scale.sizes:
            for level, league in leagues.items():
                rows = _compete(league, scale, size, appended)
                report.add_contest(f"append {size:,} a call, {level}", rows, *NOTES[level])
        for table, count in appended.items():
            found = count_rows(connection, table) - before[table]
            report.totals.append(Total(f"append: rows of {table}", count, found))


NOTES = {
    "as applications do": (
        "its recorder is spared what its applications spend above it; aimed at all the same",
        "psycopg and the ORM: same columns and indexes; no versions, dense order, hashes or chain",
    ),
    "the layer below": (
        "ours: events checked and encoded, and one call of append_events in autocommit",
    ),
}


def _compete(
    league: Sequence[Appender], scale: Scale, size: int, appended: Counter[str]
) -> list[dict[str, Any]]:
    rivals = [
        Rival(
            rival.name,
            _repeated(rival, size, appended),
            AIMS.get(size) if isinstance(rival, AIMED_AT) else None,
            rival.renew,
        )
        for rival in league
    ]
    calls = max(scale.calls // FEWER.get(size, 1), 2)
    rows = compete(rivals, rounds=scale.rounds, operations=calls)
    return [_by_event(row, size) for row in rows]


def _by_event(row: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Return the row with its rates by event instead of by call."""
    return {
        "who": row["who"],
        "events per second": row["per second"] * size,
        "client CPU µs an event": row["client CPU µs"] / size,
        "ours ÷ this": row["ours ÷ this"],
        "aim": row["aim"],
    }


def _repeated(rival: Appender, size: int, appended: Counter[str]) -> Callable[[int], None]:
    def run(calls: int) -> None:
        for _ in range(calls):
            rival.append(size)
        appended[rival.table] += calls * size

    return run
