"""Writing an archive file: block by block, with a page in memory, and on disk when it is done."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from rootstream_db.services.event_archive.framing import Block, Index, Line, pack_block, pack_index

BLOCK_EVENTS: Final = 1000
"""Most events of a block: reading one event costs reading so many."""

BLOCK_BYTES: Final = 1024 * 1024
"""Bytes of text at which a block ends earlier, so that a few of them always fit into memory."""

PARTIAL: Final = ".partial"
"""The end of the name of a file that is not finished."""

_MODE: Final = 0o640  # events are personal: nobody but the owner and the group reads them


class ArchiveWriter:
    """Writes events into an open file.

    Args:
        file: a new file.
        log_id: the log they belong to.
        first_position: the position of the first one; each one after it has the next position.
    """

    def __init__(self, file: BinaryIO, *, log_id: int, first_position: int) -> None:
        self._file = file
        self._log_id = log_id
        self._next = first_position
        self._offset = 0
        self._blocks: list[Block] = []
        self._lines: list[Line] = []
        self._text = 0

    def add(self, line: Line) -> None:
        """Write the next event."""
        self._lines.append(line)
        self._text += len(line.text)
        if len(self._lines) >= BLOCK_EVENTS or self._text >= BLOCK_BYTES:
            self._end_block()

    def finish(self, chain: bytes) -> None:
        """Write what is left and the index; ``chain`` is that of the log up to the last event."""
        if self._lines:
            self._end_block()
        self._file.write(pack_index(Index(self._log_id, chain, tuple(self._blocks))))

    def _end_block(self) -> None:
        raw = pack_block(self._lines)
        events = len(self._lines)
        digest = hashlib.sha256(raw).digest()
        self._blocks.append(Block(self._next, events, self._offset, len(raw), digest))
        self._file.write(raw)
        self._offset += len(raw)
        self._next += events
        self._lines, self._text = [], 0


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that is on disk, whole, once the block is left; an exception removes it."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def partial_path(path: Path) -> Path:
    """Return the name of a file until it is finished; no two attempts share it."""
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")


def publish(partial: Path, path: Path) -> None:
    """Give a finished file its name, for good."""
    partial.replace(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Have the names in a directory on disk before returning."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
