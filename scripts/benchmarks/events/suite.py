"""The event store: appending, many writers, reading, aggregates and verifying, beside rivals."""

from __future__ import annotations

from functools import partial

from scripts.benchmarks.events import aggregates, appends, reading, verifying, writers
from scripts.benchmarks.events.scale import FULL, QUICK, Scale
from scripts.benchmarks.parts import run_parts

__all__ = ["FULL", "PARTS", "QUICK", "Scale", "run"]

PARTS = {
    "append": appends.measure,
    "writers": writers.measure,
    "aggregates": aggregates.measure,
    "read": reading.measure,
    "verify": verifying.measure,
}

run = partial(run_parts, PARTS)
"""Measure every part, or those named: ``run(rootstream, scale, parts=…, say=…)``."""
