"""Wires the fixtures in and marks tests by the engines their fixtures need."""

from __future__ import annotations

import signal
from typing import Final

import pytest

pytest_plugins = [
    "tests.fixtures.servers",
    "tests.fixtures.database",
    "tests.fixtures.redis",
    "tests.fixtures.mfa",
]

MARKERS: Final = {"worker_database_url": "postgres", "redis_url": "redis"}


def pytest_configure() -> None:
    """Listen to SIGINT and SIGQUIT even as a shell's background job, whose children inherit it."""
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGQUIT, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Add the marker of each engine a test's fixtures lead to."""
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if fixture in MARKERS:
                item.add_marker(MARKERS[fixture])
