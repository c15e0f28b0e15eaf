"""The parts of a suite, measured one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from rootstream_db import RootStream
from scripts.benchmarks.machine import describe
from scripts.benchmarks.report import Report

ScaleT = TypeVar("ScaleT")


def run_parts(
    measures: Mapping[str, Callable[[RootStream, ScaleT, Report], None]],
    rootstream: RootStream,
    scale: ScaleT,
    *,
    parts: Sequence[str] | None = None,
    say: Callable[[str], None],
) -> Report:
    """Measure every part, or those named, one after the other."""
    report = Report(describe(rootstream))
    for name, measure in measures.items():
        if parts is None or name in parts:
            say(f"bench: {name} …")
            measure(rootstream, scale, report)
    return report
