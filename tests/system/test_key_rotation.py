"""A rotation of the master keys while other processes work, killed in the middle and taken up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest

from rootstream_db.rootstream import RootStream
from rootstream_db.security.key_file import MasterKeyFile
from rootstream_db.services.key_rotation import SETTLED_AFTER
from rootstream_db.settings import Settings

PROGRAM = Path(__file__).with_name("key_program.py")
CHECKOUT = PROGRAM.parents[2]
USERS = 2
ROUND = 5


class User:
    """A process that seals and opens."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=CHECKOUT,
            env=environment,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def work_on(self, rounds: int) -> None:
        """Return when it has done so many rounds more."""
        assert self.process.stdout
        for _ in range(rounds):
            assert self.process.stdout.readline(), "the process died"

    def end(self) -> dict:
        output, _ = self.process.communicate(timeout=60)
        found: dict = json.loads(output.splitlines()[-1])
        return found


@pytest.fixture
def file(tmp_path) -> MasterKeyFile:
    file = MasterKeyFile(tmp_path / "master_keys")
    file.add()
    return file


@pytest.fixture
def environment(clean_database_url, redis_url, file) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(CHECKOUT),
        "ROOTSTREAM_DATABASE_URL": clean_database_url,
        "ROOTSTREAM_REDIS_URL": redis_url,
        "ROOTSTREAM_SECURITY__MASTER_KEYS_FILE": str(file.path),
    }


def command(environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    program = "from rootstream_db.cli.app import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def by_key(rs: RootStream) -> dict[int, int]:
    return {use.key_id: use.total for use in rs.key_rotation.status() if use.total}


@pytest.mark.slow
def test_keys_rotate_under_load_through_a_kill_and_no_call_fails(environment, file):
    with ExitStack() as stack:
        rs = stack.enter_context(RootStream(Settings.load(environ=environment)))
        users = [stack.enter_context(User(environment)) for _ in range(USERS)]
        for user in users:
            user.work_on(4)
        assert {1} == set(by_key(rs))

        assert 2 == file.add()
        doomed = command(environment, "keys", "rotate", "--batch", "1")
        deadline = time.monotonic() + 60
        while 2 not in by_key(rs):
            assert time.monotonic() < deadline, doomed.communicate()
            time.sleep(0.005)
        doomed.kill()
        doomed.communicate()

        deadline = time.monotonic() + 60
        while rs.key_rotation.rotate(batch=20).resealed:
            assert time.monotonic() < deadline
        for user in users:
            user.work_on(4)
        assert {2} == set(by_key(rs))

        long_ago = time.time() - SETTLED_AFTER.total_seconds() - 1
        os.utime(file.path, (long_ago, long_ago))
        rs.key_rotation.drop(1, file)
        assert [2] == list(file())
        for user in users:
            user.work_on(4)
        ends = [user.end() for user in users]

        assert [[]] * USERS == [end["failures"] for end in ends]
        assert [2] * USERS == [end["key"] for end in ends]
        assert all(end["calls"] >= 12 * ROUND for end in ends)
        events = [event for event in rs.events.read_all() if event.event_type == "Joined"]
        assert [{"n": 1}] * len(events) == rs.events.personal_of_many(events)
