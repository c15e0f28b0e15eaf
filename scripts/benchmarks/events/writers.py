"""Sixteen processes that append at once, against one: what does waiting for one another cost?"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from statistics import median
from typing import Any, Final

from rootstream_db import RootStream, Settings
from scripts.benchmarks.events.log import append
from scripts.benchmarks.events.rivals import EventSourcing, count_rows, rival_schema
from scripts.benchmarks.events.scale import Scale
from scripts.benchmarks.foundation.rows import address, connect
from scripts.benchmarks.report import Aim, Report, Table, Total

AIM: Final = 0.8
WARM_UP: Final = 8
NAMES: Final = {"ours": "ours, unit of work", "theirs": EventSourcing.name}


def measure(rootstream: RootStream, scale: Scale, report: Report) -> None:
    """Measure one event a transaction, by one writer and by all, ours and eventsourcing's."""
    before = rootstream.events.head().last_position
    each = scale.events_writing // scale.writers
    rates: dict[tuple[str, int], list[float]] = {
        (who, count): [] for who in NAMES for count in (1, scale.writers)
    }
    with ExitStack() as stack:
        stack.enter_context(rival_schema(rootstream))
        # Its tables are made once: made by all at once, most of them fail.
        EventSourcing(address(rootstream)).close()
        orders = stack.enter_context(_processes(rootstream, scale.writers))
        for who in NAMES:
            _turn(orders, who, WARM_UP)
        for _ in range(scale.rounds_writing):
            for (who, count), measured in rates.items():
                share = each * scale.writers // count
                measured.append(_turn(orders[:count], who, share))
        appended = scale.writers * (WARM_UP + each * scale.rounds_writing * 2)
        found = rootstream.events.head().last_position - before
        report.totals.append(Total("writers: events in the log", appended, found))
        with connect(rootstream) as connection:
            theirs = count_rows(connection, EventSourcing.table)
        report.totals.append(Total(f"writers: rows of {EventSourcing.name}", appended, theirs))
    _report(report, rates, scale)


def _report(report: Report, rates: dict[tuple[str, int], list[float]], scale: Scale) -> None:
    rows: list[dict[str, Any]] = []
    for (who, count), measured in rates.items():
        shares = [many / one for many, one in zip(measured, rates[who, 1], strict=True)]
        rows.append(
            {
                "who": NAMES[who],
                "processes": count,
                "events per second": median(measured),
                "÷ one writer": median(shares) if count > 1 else None,
            }
        )
        if who == "ours" and count > 1:
            report.aims.append(Aim(f"{count} writers: ÷ one writer", AIM, median(shares)))
    report.tables.append(
        Table(
            f"{scale.writers} writers at once",
            rows,
            ["one event a transaction, every process on an aggregate of its own"],
        )
    )


def _turn(orders: Sequence[Connection], who: str, each: int) -> float:
    started = time.perf_counter()
    for order in orders:
        order.send((who, each))
    for order in orders:
        order.recv()
    return each * len(orders) / (time.perf_counter() - started)


@contextmanager
def _processes(rootstream: RootStream, count: int) -> Iterator[list[Connection]]:
    """Run writers that wait for orders; each has connected when this yields."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    settings = Settings(
        database=rootstream.settings.database.model_copy(update={"pool_size": 1}),
        redis=rootstream.settings.redis,
    )
    pipes = [context.Pipe() for _ in range(count)]
    processes = [
        context.Process(target=_write, args=(settings, number, theirs), daemon=True)
        for number, (_, theirs) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    orders = [ours for ours, _ in pipes]
    try:
        for (ours, theirs), process in zip(pipes, processes, strict=True):
            # So that the end of a process is the end of its pipe, and nobody waits for it.
            theirs.close()
            if ours.recv() != "ready":
                raise RuntimeError(f"writer {process.pid} did not start")
        yield orders
    finally:
        for order, process in zip(orders, processes, strict=True):
            order.close()
            process.join(timeout=30)


def _write(settings: Settings, number: int, orders: Connection) -> None:
    """Append what is ordered, one event a transaction, until nobody orders any more."""
    with RootStream(settings) as rootstream, ExitStack() as stack:
        theirs = EventSourcing(address(rootstream), create=False)
        stack.callback(theirs.close)
        orders.send("ready")
        while True:
            try:
                who, count = orders.recv()
            except EOFError:
                return
            for _ in range(count):
                if who == "ours":
                    append(rootstream, ("Writing", str(number)), 1)
                else:
                    theirs.append(1)
            orders.send("done")
