"""The benchmark of the event store works: it measures every part and its totals are real."""

from __future__ import annotations

from rootstream_db import RootStream
from scripts.benchmarks.events import suite
from scripts.benchmarks.events.scale import Scale
from scripts.benchmarks.report import render

TINY = Scale(
    rounds=1,
    calls=2,
    sizes=(1, 10),
    writers=2,
    rounds_writing=1,
    events_writing=4,
    events_read=10,
    rounds_reading=1,
    loads=2,
)


def test_a_tiny_run_measures_every_part_and_all_totals_agree(rootstream: RootStream):
    report = suite.run(rootstream, TINY, say=lambda _: None)
    assert [] == [total for total in report.totals if not total.agrees]
    assert len(suite.PARTS) < len(report.tables)
    assert all(aim.found > 0 for aim in report.aims)
    assert all(table.title in render(report) for table in report.tables)
