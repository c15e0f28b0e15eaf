"""The benchmark itself works: it measures every part and its totals are real."""

from __future__ import annotations

from dataclasses import replace

import orjson

from rootstream_db import RootStream
from scripts.benchmarks.foundation import suite as foundation
from scripts.benchmarks.foundation.scale import Scale
from scripts.benchmarks.report import Total, render

TINY = Scale(rounds=1, operations=8, seconds_held=0.2, seconds_fair=0.05, rounds_fair=1)


def test_a_tiny_run_measures_every_part_and_all_totals_agree(rootstream: RootStream):
    report = foundation.run(rootstream, TINY, say=lambda _: None)
    assert [] == [total for total in report.totals if not total.agrees]
    assert len(foundation.PARTS) < len(report.tables)
    assert all(aim.found > 0 for aim in report.aims)
    assert report.as_dict() == orjson.loads(orjson.dumps(report.as_dict()))
    assert all(table.title in render(report) for table in report.tables)


def test_a_total_that_disagrees_fails_the_run(rootstream: RootStream):
    report = foundation.run(
        rootstream, replace(TINY, rounds=2), parts=["writes"], say=lambda _: None
    )
    before = report.totals_agree
    report.totals.append(Total("rows", 2, 1))
    assert (True, False) == (before, report.totals_agree)
    assert "DISAGREES  rows: expected 2, found 1" in render(report)
