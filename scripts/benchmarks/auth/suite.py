"""Sessions and codes: finding, opening and ending, beside Django, Flask-Session and bare reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rootstream_db import RootStream
from scripts.benchmarks.auth import codes, contests, revocation, upkeep
from scripts.benchmarks.auth.scale import FULL, QUICK, Scale
from scripts.benchmarks.machine import describe
from scripts.benchmarks.report import Report

__all__ = ["FULL", "PARTS", "QUICK", "Scale", "run"]

PARTS = {
    "validate": contests.validate,
    "fallback": contests.fall_back,
    "create": contests.create,
    "touch": upkeep.touch,
    "revocation": revocation.measure,
    "mixed": upkeep.mixed,
    "codes": codes.measure,
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
