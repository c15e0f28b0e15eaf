"""The recordings directory: the only place that recordings are read from and deleted in."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Final

from rootstream_db.errors import ConfigurationError, ValidationError
from rootstream_db.services.media_probe import MediaFacts, probe

LONGEST_PATH: Final = 4096
"""PATH_MAX of Linux."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedFile:
    """A recording's file and what was read from it; ``media`` is None if it cannot be played."""

    path: Path
    size_bytes: int
    sha256: bytes
    media: MediaFacts | None


class RecordingsFolder:
    """Reads and deletes files below one directory, wherever links or dots in a path lead.

    Paths come from media servers and may be anything.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def inspect(self, path: str | Path) -> RecordedFile:
        """Read a file from start to end.

        Raises:
            ValidationError: there is no such file, it is empty, no regular file, not readable, or
                lies outside of the directory.
            ConfigurationError: no directory is set, or PyAV is missing.
        """
        inside = self.locate(path)
        try:
            with _open(inside) as file:
                size = os.fstat(file.fileno()).st_size
                if size == 0:
                    raise refused(f"{inside} is empty")
                digest = hashlib.file_digest(file, "sha256").digest()
                file.seek(0)
                media = probe(file, name=inside.name)
        except OSError as error:
            raise refused(f"{inside} cannot be read: {error.strerror}") from error
        return RecordedFile(path=inside, size_bytes=size, sha256=digest, media=media)

    def confirm(self, file: RecordedFile, path: str | Path) -> RecordedFile:
        """Return what was read before, if it was read from that path.

        Raises:
            ValidationError: it was read from another file.
        """
        if self.locate(path) != file.path:
            raise refused(f"{path} is not the file that was read: that was {file.path}")
        return file

    def remove(self, path: str | Path) -> None:
        """Delete a file; one that is gone already is fine.

        Raises:
            ValidationError: the file lies outside of the directory or cannot be deleted.
        """
        inside = self.locate(path)
        try:
            inside.unlink(missing_ok=True)
        except OSError as error:
            raise refused(f"{inside} cannot be deleted: {error.strerror}") from error

    def locate(self, path: str | Path) -> Path:
        """Return where a path really leads; a relative one is taken from the directory.

        Raises:
            ValidationError: it leads out of the directory.
            ConfigurationError: no directory is set.
        """
        if self._directory is None:
            raise ConfigurationError(
                "say where recordings are: no file outside of that directory is read",
                setting="ingest.recordings_directory",
            )
        text = os.fspath(path)
        if "\0" in text or not 1 <= len(text) <= LONGEST_PATH:
            raise refused(f"a recording's path is text of at most {LONGEST_PATH} characters")
        base = self._directory.resolve()
        # Links and dots are followed first: what is compared is where the file really is.
        inside = _resolved(base / text)
        if inside == base or not inside.is_relative_to(base):
            raise refused(f"{text} is not inside the recordings directory {base}")
        return inside


def refused(message: str) -> ValidationError:
    """Return the refusal of a path."""
    return ValidationError(message, field="path")


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise refused(f"{path} leads nowhere: {error}") from error


def _open(path: Path) -> BufferedReader:
    """Open a regular file; O_NONBLOCK, so that a named pipe is refused instead of waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise refused(f"{path} is not a file")
    return os.fdopen(descriptor, "rb")
