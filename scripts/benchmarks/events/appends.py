"""Appending 1, 100 and 1,000 events a call, each call committed to disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from rootstream_db import RootStream
from scripts.benchmarks.contest import WARM_UP, Rival, compete
from scripts.benchmarks.events.log import append
from scripts.benchmarks.events.rivals import (
    Appender,
    BareOrm,
    EventSourcing,
    Plain,
    count_rows,
    rival_schema,
)
from scripts.benchmarks.events.scale import Scale
from scripts.benchmarks.foundation.rows import address, connect
from scripts.benchmarks.report import Report, Total

AIMS = {1: 1.7, 100: 1.5, 1000: 1.4}
"""The least of eventsourcing's rate, by events a call."""

FEWER = {1: 1, 100: 4, 1000: 20}
"""How many times fewer calls a turn has."""


def measure(rootstream: RootStream, scale: Scale, report: Report) -> None:
    """Measure all sizes, and count what everybody stored."""
    before = rootstream.events.head().last_position
    with ExitStack() as stack:
        stack.enter_context(rival_schema(rootstream))
        rivals: list[Appender] = [
            EventSourcing(address(rootstream)),
            Plain(rootstream),
            BareOrm(rootstream),
        ]
        for rival in rivals:
            stack.callback(rival.close)
        appended = sum(_compare(rootstream, scale, report, rivals, size) for size in scale.sizes)
        found = rootstream.events.head().last_position - before
        report.totals.append(Total("append: events in the log", appended, found))
        with connect(rootstream) as connection:
            for rival in rivals:
                found = count_rows(connection, rival.table)
                report.totals.append(Total(f"append: rows of {rival.name}", appended, found))


def _compare(  # noqa: PLR0917 - the same for every size
    rootstream: RootStream, scale: Scale, report: Report, rivals: list[Appender], size: int
) -> int:
    calls = max(scale.calls // FEWER.get(size, 1), 2)
    ours = Rival(
        "ours, hash chain on",
        _repeated(lambda count: append(rootstream, ("Benchmark", "ours"), count), size),
        renew=rootstream.database.engine.dispose,
    )
    others = [
        Rival(
            rival.name,
            _repeated(rival.append, size),
            AIMS.get(size) if isinstance(rival, EventSourcing) else None,
            rival.renew,
        )
        for rival in rivals
    ]
    rows = compete([ours, *others], rounds=scale.rounds, operations=calls)
    report.add_contest(
        f"append {size:,} a call",
        [_by_event(row, size) for row in rows],
        "psycopg and the ORM: same columns and indexes; no versions, dense order, hashes or chain",
    )
    return size * (calls * (scale.rounds + 1) + WARM_UP * scale.rounds)


def _by_event(row: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Return the row with its rates by event instead of by call."""
    return {
        "who": row["who"],
        "events per second": row["per second"] * size,
        "client CPU µs an event": row["client CPU µs"] / size,
        "ours ÷ this": row["ours ÷ this"],
        "aim": row["aim"],
    }


def _repeated(act: Callable[[int], object], size: int) -> Callable[[int], None]:
    def run(calls: int) -> None:
        for _ in range(calls):
            act(size)

    return run
