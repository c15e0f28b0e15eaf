"""The event store: appending, many writers, reading, aggregates and verifying, beside rivals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rootstream_db import RootStream
from scripts.benchmarks.events import aggregates, appends, reading, verifying, writers
from scripts.benchmarks.events.scale import FULL, QUICK, Scale
from scripts.benchmarks.machine import describe
from scripts.benchmarks.report import Report

__all__ = ["FULL", "PARTS", "QUICK", "Scale", "run"]

PARTS = {
    "append": appends.measure,
    "writers": writers.measure,
    "aggregates": aggregates.measure,
    "read": reading.measure,
    "verify": verifying.measure,
}


def run(
    rootstream: RootStream,
    scale: Scale,
    *,
    parts: Sequence[str] | None = None,
    say: Callable[[str], None],
) -> Report:
    """Measure every part, or those named, one after the other."""
    report = Report(describe(rootstream))
    for name, measure in PARTS.items():
        if parts is None or name in parts:
            say(f"bench: {name} …")
            measure(rootstream, scale, report)
    return report
