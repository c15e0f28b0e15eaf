"""Writer processes that roll back and are killed, readers that follow: nothing missed or repeated.

``ROOTSTREAM_TEST_EVENTS`` (default 3,000) and ``ROOTSTREAM_TEST_WRITERS`` (default 6) set the
scale; give more time with ``-o faulthandler_timeout=900``.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest

from rootstream_db.services.event_store import EventStore

EVENTS = int(os.environ.get("ROOTSTREAM_TEST_EVENTS", "3000"))
WRITERS = int(os.environ.get("ROOTSTREAM_TEST_WRITERS", "6"))
READERS = 2
KILLS = 4
UNIT = max(8, EVENTS // 5000)
"""Most events of one unit."""
DEADLINE = 60 + EVENTS / 500

PROGRAM = Path(__file__).with_name("event_programs.py")
CHECKOUT = PROGRAM.parents[2]

pytestmark = pytest.mark.slow


@dataclass
class Writer:
    """A process, and the file in which it says how much it wrote."""

    name: str
    quota: int
    said: Path
    process: subprocess.Popen[bytes]
    killed: bool = False

    @property
    def acknowledged(self) -> int:
        complete = self.said.read_text().rpartition("\n")[0]
        return int(complete.rpartition("\n")[2] or 0)


def start(said: Path, *arguments: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    with said.open("wb") as output:
        program = [sys.executable, str(PROGRAM), *arguments]
        return subprocess.Popen(program, stdout=output, env=environment)


class Site:
    """The writers of a test; killed ones are replaced by others that finish their quota."""

    def __init__(self, url: str, folder: Path) -> None:
        self.writers: list[Writer] = []
        self._url, self._folder = url, folder

    def add(self, quota: int) -> None:
        name = f"writer-{len(self.writers)}"
        said = self._folder / name
        process = start(said, "writer", self._url, name, str(quota), str(UNIT))
        self.writers.append(Writer(name, quota, said, process))

    def running(self) -> list[Writer]:
        return [writer for writer in self.writers if writer.process.poll() is None]

    def kill_one(self, chance: random.Random) -> None:
        running = self.running()
        if running:
            victim = chance.choice(running)
            victim.process.kill()
            victim.killed = victim.process.wait(DEADLINE) == -9
            if victim.killed and victim.acknowledged < victim.quota:
                self.add(victim.quota - victim.acknowledged)


def oversee(site: Site, events: EventStore, chance: random.Random) -> None:
    """Kill a writer now and then, until all have finished."""
    kills = sorted(chance.randrange(EVENTS) for _ in range(KILLS))
    deadline = time.monotonic() + DEADLINE
    while site.running():
        assert time.monotonic() < deadline
        if kills and events.head().last_position >= kills[0]:
            kills.pop(0)
            site.kill_one(chance)
        else:
            time.sleep(0.02)


def test_readers_miss_and_repeat_nothing_while_writers_die(
    committed_database, clean_database_url, tmp_path
):
    events, chance = EventStore(committed_database), random.Random(7)
    site = Site(clean_database_url, tmp_path)
    said = [tmp_path / f"reader-{number}" for number in range(READERS)]
    readers = [start(path, "reader", clean_database_url) for path in said]
    for _ in range(WRITERS):
        site.add(EVENTS // WRITERS)
    try:
        oversee(site, events, chance)
        with committed_database.transaction() as work:
            events.append(work, "Test", "1", "End", {})
        assert [0] * READERS == [reader.wait(DEADLINE) for reader in readers]
    finally:
        for process in [*readers, *(writer.process for writer in site.writers)]:
            process.kill()
            process.wait(DEADLINE)
    assert any(writer.killed for writer in site.writers)
    assert [0] * len(site.writers) == [
        0 if writer.killed else writer.process.returncode for writer in site.writers
    ]
    expected = contents(events, site)
    assert [expected] * READERS == [json.loads(path.read_text()) for path in said]
    assert events.verify().ok


def contents(events: EventStore, site: Site) -> dict[str, object]:
    """Return what a reader must have seen, after checking what each writer wrote."""
    digest, count = hashlib.sha256(), 0
    written: defaultdict[str, int] = defaultdict(int)
    for event in events.read_all():
        count += 1
        assert count == event.position
        digest.update(event.event_id.bytes)
        if event.event_type == "Written":
            writer = event.data["writer"]
            assert written[writer] == event.data["n"], "each number once, in order"
            written[writer] += 1
    for writer in site.writers:
        # Between the commit and the word about it a writer may have been killed, once.
        unsaid = UNIT if writer.killed else 0
        assert 0 <= written[writer.name] - writer.acknowledged <= unsaid
    assert count >= EVENTS // WRITERS * WRITERS
    return {"count": count, "digest": digest.hexdigest(), "wrong": []}
