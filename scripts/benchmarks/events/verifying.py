"""Verifying the whole log: every row hashed anew, every link of the chain made anew."""

from __future__ import annotations

import time
from statistics import median
from typing import Final

from rootstream_db import RootStream
from scripts.benchmarks.events.log import fill
from scripts.benchmarks.events.scale import Scale
from scripts.benchmarks.report import Aim, Report, Table, Total

AIM: Final = 100_000.0


def measure(rootstream: RootStream, scale: Scale, report: Report) -> None:
    """Measure verification from the first position to the head."""
    count = fill(rootstream, scale.events_read)
    rates, processor, verified = [], [], set()
    for _ in range(scale.rounds_reading):
        before, started = time.process_time(), time.perf_counter()
        verification = rootstream.events.verify()
        rates.append(verification.events / (time.perf_counter() - started))
        processor.append((time.process_time() - before) / verification.events)
        verified.add((verification.events, verification.ok))
    title = f"verify {count:,} events"
    report.tables.append(
        Table(
            title,
            [
                {
                    "who": "verify",
                    "events per second": median(rates),
                    "client CPU µs an event": median(processor) * 1e6,
                }
            ],
            ["most commits have 1,000 events"],
        )
    )
    report.aims.append(Aim(f"{title}: per second", AIM, median(rates)))
    report.totals.append(Total("verify: events that hold", {(count, True)}, verified))
