"""The foundation: reads, writes, viewer counting, fairness and events against the layers below."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rootstream_db import RootStream
from scripts.benchmarks.foundation import events, fairness, reads, viewers, writes
from scripts.benchmarks.foundation.scale import FULL, QUICK, Scale
from scripts.benchmarks.machine import describe
from scripts.benchmarks.report import Report

__all__ = ["FULL", "PARTS", "QUICK", "Scale", "run"]

PARTS = {
    "reads": reads.measure,
    "writes": writes.measure,
    "viewers": viewers.measure,
    "fairness": fairness.measure,
    "events": events.measure,
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
