"""Recordings that no hook told about, because no hook server ran when they were finished."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rootstream_db.clock import Clock, utc_now
from rootstream_db.services.ingest.requests import HookEvent, IngestRequest

if TYPE_CHECKING:
    from rootstream_db.database import Database

SETTLED: Final = timedelta(minutes=1)
"""A file that was not written for so long is taken for finished."""

_AT_ONCE: Final = 500
_PUBLIC_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


class MissedRecordings:
    """Looks for files that are in the recordings directory and not in the database.

    Media servers tell about a finished recording once. The file is there all the same, and its
    path has the stream's public id, because that is the name the stream was published under.
    Each file is found once: one that cannot be registered is not read over and over.

    Args:
        database: where recordings are registered.
        directory: where they are; None finds nothing.
        clock: the time, to tell finished files from those being written.
    """

    def __init__(
        self, database: Database, directory: Path | None, *, clock: Clock = utc_now
    ) -> None:
        self._database = database
        self._directory = directory
        self._clock = clock
        self._found: set[Path] = set()

    def find(self) -> Iterator[IngestRequest]:
        """Yield what the hooks would have said."""
        named = self._named()
        while some := dict(islice(named, _AT_ONCE)):
            with self._database.read() as work:
                known = work.recordings.list_known_paths([str(path) for path in some])
            self._found.update(some)
            for path, public_id in some.items():
                if str(path) not in known:
                    yield _request(path, public_id)

    def _named(self) -> Iterator[tuple[Path, str]]:
        if self._directory is None:
            return
        root = self._directory.resolve()
        for folder, _, names in os.walk(root):
            for name in names:
                path = Path(folder, name)
                public_ids = _PUBLIC_ID.findall(str(path.relative_to(root)))
                if public_ids and path not in self._found and self._is_finished(path):
                    yield path, public_ids[-1]

    def _is_finished(self, path: Path) -> bool:
        try:
            written_at = datetime.fromtimestamp(path.stat(follow_symlinks=False).st_mtime, UTC)
        except FileNotFoundError:
            return False
        return self._clock() - written_at >= SETTLED


def _request(path: Path, public_id: str) -> IngestRequest:
    return IngestRequest(
        event=HookEvent.RECORD_DONE,
        node="catch-up",
        connection_id="recordings",
        public_id=public_id,
        file_path=str(path),
    )
