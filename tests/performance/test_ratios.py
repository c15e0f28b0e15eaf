"""Generous floors under the ratios of ``scripts/bench foundation``: a slide shows, noise does not.

Run with ``scripts/test -m benchmark tests/performance``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scripts.benchmarks.foundation import suite as foundation
from scripts.benchmarks.foundation.scale import Scale
from scripts.benchmarks.report import Report

SCALE = Scale(rounds=11, operations=100, seconds_held=3, seconds_fair=1, rounds_fair=3)

pytestmark = pytest.mark.benchmark


@pytest.fixture(scope="module")
def report() -> Iterator[Report]:
    from scripts.benchmarks.__main__ import durable_servers

    with durable_servers(None) as rootstream:
        yield foundation.run(rootstream, SCALE, say=print)


def ratio(report: Report, what: str) -> float:
    (found,) = (aim.found for aim in report.aims if aim.what == what)
    return found


@pytest.mark.parametrize(
    ("what", "floor"),
    [
        ("read by key, autocommit: ours ÷ psycopg, connection held, tuple", 0.15),
        ("read by key, autocommit: ours ÷ psycopg_pool each time, tuple", 0.2),
        ("read by key, autocommit: ours ÷ bare ORM, Session.get", 1.0),
        ("read by key, txn: ours ÷ psycopg, connection held, tuple", 0.25),
        ("read by key, txn: ours ÷ psycopg_pool each time, tuple", 0.3),
        ("read by key, txn: ours ÷ bare ORM, Session.get", 0.9),
        ("insert one row, txn: ours ÷ psycopg", 0.3),
        ("insert one row, txn: ours ÷ bare ORM, Session.add", 0.7),
        ("load and change one row, txn: ours ÷ psycopg", 0.35),
        ("load and change one row, txn: ours ÷ bare ORM, Session.get", 0.7),
        ("viewer updates, held at 10,000/s for 3 s: share of the rate", 0.9),
        ("fairness: Jain's index", 0.95),
    ],
)
def test_ours_keeps_up_with_the_layers_below(report: Report, what: str, floor: float):
    assert floor <= ratio(report, what)


def test_every_total_agrees(report: Report):
    assert [] == [total for total in report.totals if not total.agrees]
