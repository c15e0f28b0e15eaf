"""How often the hook server looks for publishers that died."""

from __future__ import annotations

from datetime import timedelta

import pytest

from rootstream_db.services.ingest.server import interval_for


@pytest.mark.parametrize(
    ("lease", "interval"),
    [
        (timedelta(milliseconds=100), timedelta(milliseconds=200)),
        (timedelta(seconds=4), timedelta(seconds=1)),
        (timedelta(seconds=15), timedelta(seconds=3.75)),
        (timedelta(minutes=10), timedelta(seconds=5)),
    ],
)
def test_it_looks_several_times_a_lease(lease: timedelta, interval: timedelta):
    assert interval == interval_for(lease)
