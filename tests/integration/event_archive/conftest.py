"""A log with real commits, an archive directory, and what archives it."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from rootstream_db.database import Database
from rootstream_db.services.event_archive import ArchiveReader, EventArchiver
from rootstream_db.services.event_store import EventStore, NewEvent
from rootstream_db.settings import EventSettings
from rootstream_db.testing import FrozenClock


class Site:
    """A log of numbered events, and everything that archives and reads it."""

    def __init__(self, database: Database, directory: Path, clock: FrozenClock) -> None:
        self.database = database
        self.directory = directory
        self.clock = clock
        self.events = EventStore(database, clock=clock, archive=ArchiveReader(directory))
        self.archiver = self.archiver_of(database)

    def archiver_of(self, database: Database, **options: Any) -> EventArchiver:
        """Return another archiver of the same directory."""
        given = {"archive_directory": self.directory, "archive_file_events": 10, **options}
        return EventArchiver(database, EventSettings(**given), clock=self.clock)

    def append(
        self, *sizes: int, user_id: int | None = None, subject_id: uuid.UUID | None = None
    ) -> None:
        """Append commits of so many events each, turn by turn to three polls."""
        for size in sizes:
            for_poll = self.events.head().last_position % 3
            many = [
                NewEvent(
                    event_type=("Voted", "Seen")[n % 2],
                    data={"n": n},
                    user_id=user_id,
                    subject_id=subject_id,
                )
                for n in range(size)
            ]
            with self.database.transaction() as work:
                self.events.append_many(work, "Poll", str(for_poll), many)

    def files(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir())

    def count_rows(self) -> int:
        with self.database.read() as work:
            connection = work.session.connection()
            return int(connection.exec_driver_sql("SELECT count(*) FROM event_log").scalar_one())


@pytest.fixture
def site(committed_database: Database, tmp_path: Path, clock: FrozenClock) -> Site:
    return Site(committed_database, tmp_path / "archive", clock)
