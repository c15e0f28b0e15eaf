"""The foundation: reads, writes, viewer counting, fairness and events against the layers below."""

from __future__ import annotations

from functools import partial

from scripts.benchmarks.foundation import events, fairness, reads, viewers, writes
from scripts.benchmarks.foundation.scale import FULL, QUICK, Scale
from scripts.benchmarks.parts import run_parts

__all__ = ["FULL", "PARTS", "QUICK", "Scale", "run"]

PARTS = {
    "reads": reads.measure,
    "writes": writes.measure,
    "viewers": viewers.measure,
    "fairness": fairness.measure,
    "events": events.measure,
}

run = partial(run_parts, PARTS)
"""Measure every part, or those named: ``run(rootstream, scale, parts=…, say=…)``."""
