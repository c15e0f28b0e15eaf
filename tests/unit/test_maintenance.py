"""The thread that does a job again and again while nobody calls."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta

import pytest

from rootstream_db.errors import DatabaseUnavailableError
from rootstream_db.services.maintenance import Maintenance

SHORT = timedelta(milliseconds=1)


def idle() -> None:
    """Do nothing."""


def test_a_job_runs_again_and_again_until_it_is_closed():
    runs = 0
    third = threading.Event()

    def job() -> None:
        nonlocal runs
        runs += 1
        if runs == 3:
            third.set()

    with Maintenance("job", job, interval=SHORT) as maintenance:
        assert third.wait(10)
    seen = runs

    assert not maintenance._thread.is_alive()
    assert seen == runs


def test_it_stops_at_once_whatever_the_interval():
    with Maintenance("job", idle, interval=timedelta(hours=1)) as maintenance:
        assert maintenance._thread.is_alive()

    assert not maintenance._thread.is_alive()


def test_closing_what_never_began_is_allowed():
    Maintenance("job", idle, interval=SHORT).close()


def test_an_outage_is_one_line_when_it_begins_and_one_when_it_ends(
    caplog: pytest.LogCaptureFixture,
):
    broken = True

    def job() -> None:
        if broken:
            raise DatabaseUnavailableError("no connection")

    maintenance = Maintenance("reaping", job, interval=SHORT)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            maintenance.run_once()
        broken = False
        maintenance.run_once()
        maintenance.run_once()

    assert [
        "reaping fails, trying on: no connection",
        "reaping works again",
    ] == caplog.messages
