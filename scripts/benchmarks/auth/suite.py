"""Sessions and codes: finding, opening and ending, beside Django, Flask-Session and bare reads."""

from __future__ import annotations

from functools import partial

from scripts.benchmarks.auth import codes, contests, revocation, upkeep
from scripts.benchmarks.auth.scale import FULL, QUICK, Scale
from scripts.benchmarks.parts import run_parts

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

run = partial(run_parts, PARTS)
"""Measure every part, or those named: ``run(rootstream, scale, parts=…, say=…)``."""
