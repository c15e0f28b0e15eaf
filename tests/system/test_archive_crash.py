"""Archiving through SIGKILL: whenever the process dies, every event is there once."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from rootstream_db.database import Database
from rootstream_db.errors import JobRunningError
from rootstream_db.services.event_archive import ArchiveReader, EventArchiver
from rootstream_db.services.event_archive.archiver import JOB
from rootstream_db.services.event_store import EventStore, NewEvent
from rootstream_db.settings import EventSettings
from tests.fixtures.doom import fork_doomed, was_killed

READERS = 2
ROUNDS = 25
DEADLINE = 100
PROGRAM = Path(__file__).with_name("event_programs.py")

pytestmark = [
    pytest.mark.slow,
    # Children only archive and die; they never touch what the parent's threads may hold.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


class Site:
    """A log that grows, processes that archive it and die, and readers that follow it."""

    def __init__(self, database: Database, url: str, folder: Path) -> None:
        self.database = database
        self.directory = folder / "archive"
        self.events = EventStore(database, archive=ArchiveReader(self.directory))
        self.appended = 0
        self._said = [folder / f"reader-{number}" for number in range(READERS)]
        self._readers = [self._start(url, said) for said in self._said]

    def _start(self, url: str, said: Path) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(PROGRAM.parents[2])}
        program = [sys.executable, str(PROGRAM), "reader", url, str(self.directory)]
        with said.open("wb") as output:
            return subprocess.Popen(program, stdout=output, env=environment)

    def append(self, *sizes: int, event_type: str = "Counted") -> None:
        for size in sizes:
            many = [NewEvent(event_type=event_type, data={"n": n}) for n in range(size)]
            with self.database.transaction() as work:
                self.events.append_many(work, "Thing", str(self.appended % 3), many)
            self.appended += size

    def archive(self, *, file_events: int = 1000) -> None:
        """Do what one process would."""
        settings = EventSettings(archive_directory=self.directory, archive_file_events=file_events)
        EventArchiver(self.database, settings).archive(keep=2)

    def wait_for_the_lock(self) -> None:
        """Let the server notice that the process that held it is dead."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            with suppress(JobRunningError), self.database.exclusively(JOB):
                return
        raise AssertionError("the lock outlived its process")

    def require_every_event_once(self) -> None:
        assert list(range(1, self.appended + 1)) == [e.position for e in self.events.read_all()]
        with self.database.read() as work:
            rows = work.session.connection().exec_driver_sql("SELECT position FROM event_log")
            live = {position for (position,) in rows}
            archived = work.session.connection().exec_driver_sql(
                "SELECT coalesce(max(last_position), 0) FROM event_archive"
            )
            end = archived.scalar_one()
        assert set(range(end + 1, self.appended + 1)) == live

    def finish(self) -> None:
        """Let the readers come to the end, and hold what they saw against the log."""
        self.append(1, event_type="End")
        digest = hashlib.sha256()
        for event in self.events.read_all():
            digest.update(event.event_id.bytes)
        expected = {"count": self.appended, "digest": digest.hexdigest(), "wrong": []}
        assert [0] * READERS == [reader.wait(DEADLINE) for reader in self._readers]
        assert [expected] * READERS == [json.loads(said.read_text()) for said in self._said]
        assert self.events.verify().ok

    def close(self) -> None:
        for reader in self._readers:
            reader.kill()
            reader.wait(DEADLINE)


@pytest.fixture
def site(committed_database, clean_database_url, tmp_path):
    site = Site(committed_database, clean_database_url, tmp_path)
    yield site
    site.close()


def test_every_single_step_of_archiving_may_be_its_last(site):
    step = 1
    while True:
        site.append(1, 4, 2)
        if not was_killed(fork_doomed(site.archive, at=step)):
            break
        site.require_every_event_once()
        site.wait_for_the_lock()
        step += 1
    assert 40 < step
    site.archive()
    assert 2 >= len(list(site.events.read_all(after_position=site.appended - 2)))
    # Nothing is left of those that died: no half file, and no file that nothing refers to.
    known = {archive.file_name for archive in archives(site)}
    assert known == {path.name for path in site.directory.iterdir()}
    site.require_every_event_once()
    site.finish()


def test_archivers_that_die_at_random_beside_each_other_lose_nothing(site):
    chance = random.Random(1)
    crashes = 0
    for _ in range(ROUNDS):
        site.append(*(chance.randrange(1, 6) for _ in range(3)))
        children = [
            fork_doomed(lambda: archive_if_free(site), at=chance.randrange(1, 120))
            for _ in range(2)
        ]
        site.append(2)
        crashes += sum(was_killed(child) for child in children)
        site.require_every_event_once()
    assert 5 < crashes
    site.wait_for_the_lock()
    site.archive()
    site.require_every_event_once()
    site.finish()


def archive_if_free(site: Site) -> None:
    with suppress(JobRunningError):
        site.archive(file_events=4)


def archives(site: Site):
    return EventArchiver(site.database, EventSettings()).archives()
