"""The benchmark of sessions works: it measures every part and its totals are real."""

from __future__ import annotations

from rootstream_db import RootStream
from scripts.benchmarks.auth import suite
from scripts.benchmarks.auth.scale import Scale
from scripts.benchmarks.report import render

TINY = Scale(rounds=1, operations=8, sessions=10, touches=1, revocations=2, seconds_mixed=0.2)


def test_a_tiny_run_measures_every_part_and_all_totals_agree(rootstream: RootStream):
    report = suite.run(rootstream, TINY, say=lambda _: None)
    assert [] == [total for total in report.totals if not total.agrees]
    assert len(suite.PARTS) == len(report.tables)
    assert all(table.title in render(report) for table in report.tables)
