"""The log a server writes, read for the one line that says why it ended."""

from __future__ import annotations

import os
import re

from rootstream_db.embedded.folder import ServerFolder

PORT_TAKEN = "Address already in use"
_LARGE = 16 * 1024 * 1024


class ServerLog:
    """The log of one server: everything it wrote, this start's part of it, and its last words."""

    def __init__(self, folder: ServerFolder) -> None:
        self._folder = folder
        self.path = folder.path / "server.log"
        self._start = 0

    def open(self) -> int:
        """Open it for a server to append to; a large one is put aside first."""
        if self.path.exists() and self.path.stat().st_size > _LARGE:
            self.path.replace(self.path.with_suffix(".log.1"))
        descriptor = self._folder.open_private(self.path.name, os.O_WRONLY | os.O_APPEND)
        self._start = os.fstat(descriptor).st_size
        return descriptor

    def this_start(self) -> str:
        """Return what was logged since ``open()``."""
        with self.path.open("rb") as file:
            file.seek(self._start)
            return file.read().decode("utf-8", "replace")


def last_words(log: str, pattern: re.Pattern[str], *, without: str) -> str | None:
    """Return what ``pattern`` finds in the last line that has it but not ``without``."""
    for line in reversed(log.splitlines()):
        match = pattern.search(line)
        if match and without not in line:
            return " ".join(match[0].split())
    return None


def last_line(log: str) -> str:
    """Return the last line that is not empty."""
    return log.strip().rpartition("\n")[2].strip()
