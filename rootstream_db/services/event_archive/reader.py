"""Reading archived events: a block at a time, each held against the manifest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Final

from rootstream_db.errors import ConfigurationError, EventArchiveError, EventArchiveMissingError
from rootstream_db.repositories.event_archives import Archive, ArchivePart
from rootstream_db.repositories.event_proofs import ProvenRow
from rootstream_db.repositories.events import RecordedEvent
from rootstream_db.services.event_archive.framing import (
    TRAILER_BYTES,
    Block,
    DamagedError,
    Index,
    Line,
    index_size,
    unpack_block,
    unpack_index,
)
from rootstream_db.services.event_archive.lines import StoredEvent, proof_of

SETTING: Final = "events.archive_directory"


def archive_directory(directory: Path | None) -> Path:
    """Return where the files are.

    Raises:
        ConfigurationError: no setting says so.
    """
    if directory is None:
        raise ConfigurationError(
            "nothing says where the files of archived events are: set "
            "ROOTSTREAM_EVENTS__ARCHIVE_DIRECTORY",
            setting=SETTING,
        )
    return directory


class ArchiveReader:
    """Reads the files of the archive.

    The manifest in the database holds the digest of each file's index, the index those of the
    blocks: what is read is what was written, or it is an error.

    Args:
        directory: where the files are; None: nowhere, which is an error once one is needed.

    Attributes:
        end: a position up to which events are known to be archived, for readers that want to look
            there first. It may be behind.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self.end = 0

    def pages(
        self, part: ArchivePart, wants: Callable[[StoredEvent], bool]
    ) -> Generator[list[RecordedEvent], None, None]:
        """Yield the wanted events of a part, a block at a time.

        Blocks hold whole ranges of the log: other events are among those of an aggregate or user.

        Raises:
            EventArchiveMissingError: the file is not there.
            EventArchiveError: the file is not what was written.
            ConfigurationError: no setting says where it is.
        """
        archive, after = part.archive, part.after_position
        self.end = max(self.end, archive.last_position)
        with self._open(archive) as file, _naming(archive, file.name):
            index = read_index(file, sha256=archive.index_sha256)
            for number, block in enumerate(index.blocks):
                if block.last_position <= after or number not in (part.blocks or {number}):
                    continue
                lines = read_block(file, block)[max(0, after - block.first_position + 1) :]
                stored = (StoredEvent.of(line.text) for line in lines)
                found = [event.recorded() for event in stored if wants(event)]
                if found:
                    yield found

    def proofs(self, part: ArchivePart) -> Iterator[ProvenRow]:
        """Yield the events of a file after a position, each held against its own hash.

        It goes as far as it can through a file that was tampered with, to name the first event
        that is not what it was, and looks at the digests last.

        Raises:
            EventArchiveMissingError: the file is not there.
            EventArchiveError: the file is not what was written.
            ConfigurationError: no setting says where it is.
        """
        archive, after = part.archive, part.after_position
        with self._open(archive) as file:
            with _naming(archive, file.name):
                index = read_index(file)
            for block in index.blocks:
                if block.last_position > after:
                    with _naming(archive, file.name, block):
                        raw = _read_raw_block(file, block)
                        lines = unpack_block(raw, events=block.events)
                    yield from (
                        proof_of(line, position=position)
                        for position, line in enumerate(lines, block.first_position)
                        if position > after
                    )
                    with _naming(archive, file.name, block):
                        _require_digest(raw, block)
            with _naming(archive, file.name):
                _require_whole(file, archive, index)

    @contextmanager
    def _open(self, archive: Archive) -> Iterator[BufferedReader]:
        path = archive_directory(self._directory) / archive.file_name
        places = {
            "first_position": archive.first_position,
            "last_position": archive.last_position,
        }
        try:
            file = path.open("rb")
        except FileNotFoundError as error:
            raise EventArchiveMissingError(str(path), "is missing", **places) from error
        except OSError as error:
            reason = f"cannot be opened: {error.strerror}"
            raise EventArchiveError(str(path), reason, **places) from error
        with file:
            yield file


@contextmanager
def _naming(archive: Archive, path: str, block: Block | None = None) -> Iterator[None]:
    """Turn what is wrong with bytes into an error that names the file and the events in it."""
    place = block or archive
    try:
        yield
    except (DamagedError, OSError) as error:
        reason = str(error) if isinstance(error, DamagedError) else f"cannot be read: {error}"
        raise EventArchiveError(
            path, reason, first_position=place.first_position, last_position=place.last_position
        ) from error


def _require_whole(file: BufferedReader, archive: Archive, index: Index) -> None:
    """Make sure that a file is what the manifest says, to the last byte."""
    if index.last_position < archive.last_position:
        raise EventArchiveError(
            file.name,
            f"ends at {index.last_position}",
            first_position=index.last_position + 1,
            last_position=archive.last_position,
        )
    said = (archive.log_id, archive.first_position, archive.last_position, archive.chain)
    if said != (index.log_id, index.first_position, index.last_position, index.chain):
        raise DamagedError("holds other events than the manifest says")
    if digest_of(file) != archive.sha256:
        raise DamagedError("has other bytes than when it was written")


def read_index(file: BufferedReader, *, sha256: bytes | None = None) -> Index:
    """Return the index of an open file; with a digest, it must be that one.

    Raises:
        DamagedError: it is not.
    """
    raw = read_raw_index(file)
    if sha256 is not None and hashlib.sha256(raw).digest() != sha256:
        raise DamagedError("has another index than when it was written")
    return unpack_index(raw)


def read_raw_index(file: BufferedReader) -> bytes:
    """Return the bytes of an open file that ought to be its index.

    Raises:
        DamagedError: it does not end as an archive does.
    """
    length = file.seek(0, os.SEEK_END)
    file.seek(max(0, length - TRAILER_BYTES))
    file.seek(max(0, length - index_size(file.read(TRAILER_BYTES))))
    return file.read()


def read_block(file: BufferedReader, block: Block) -> list[Line]:
    """Return the lines of a block, which must have the digest that the index says.

    Raises:
        DamagedError: they are not there, or not those that were written.
    """
    raw = _read_raw_block(file, block)
    _require_digest(raw, block)
    return list(unpack_block(raw, events=block.events))


def _read_raw_block(file: BufferedReader, block: Block) -> bytes:
    file.seek(block.offset)
    return file.read(block.size)


def _require_digest(raw: bytes, block: Block) -> None:
    if hashlib.sha256(raw).digest() != block.sha256:
        raise DamagedError("has another block than when it was written")


def digest_of(file: BufferedReader) -> bytes:
    """Return the SHA-256 of an open file."""
    file.seek(0)
    return hashlib.file_digest(file, "sha256").digest()
