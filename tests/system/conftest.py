"""Programs of tests/system, run as processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

PUBLISHER = Path(__file__).with_name("publisher_program.py")


class Publisher:
    """A media server in another process, told what to do line by line."""

    def __init__(self, process):
        self._process = process

    def tell(self, *commands):
        for command in commands:
            self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()

    def hear(self):
        line = self._process.stdout.readline()
        assert line, "the publisher died"
        return json.loads(line)

    def kill(self):
        """End it as a power cut would."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(timeout=10)


@pytest.fixture
def publisher(settings):
    """Run a publisher with a stream key; it is gone when the block ends."""

    @contextmanager
    def run(key, **environment):
        process = subprocess.Popen(
            [sys.executable, PUBLISHER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=PUBLISHER.parents[2],
            env={
                **os.environ,
                "PYTHONPATH": str(PUBLISHER.parents[2]),
                "ROOTSTREAM_DATABASE_URL": settings.database.url.get_secret_value(),
                "ROOTSTREAM_REDIS_URL": settings.redis.url.get_secret_value(),
                **environment,
            },
        )
        with process:
            publisher = Publisher(process)
            try:
                publisher.tell(key)
                yield publisher
            finally:
                process.kill()

    return run
