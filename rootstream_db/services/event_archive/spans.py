"""The ranges of the log that become files: chosen, copied, and compared with what was written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple, TypeVar

from rootstream_db.database import Database
from rootstream_db.errors import SyncError
from rootstream_db.repositories.event_archives import EventArchiveRepository, StoredLine
from rootstream_db.repositories.event_proofs import EventProofRepository, Link, ProvenRow
from rootstream_db.repositories.events import DEFAULT_LOG
from rootstream_db.services.event_archive.framing import Block, DamagedError, Line, unpack_index
from rootstream_db.services.event_archive.lines import proof_of
from rootstream_db.services.event_archive.reader import digest_of, read_block, read_raw_index
from rootstream_db.services.event_archive.writer import ArchiveWriter
from rootstream_db.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

Row = TypeVar("Row")

PAGE: Final = 1000
"""Rows fetched at a time."""

SUFFIX: Final = ".jsonl.zst"


class LogSpan(NamedTuple):
    """A range of the log between two commits, and the chain at either end."""

    log_id: int
    after_position: int
    chain_before: bytes
    last_position: int
    chain: bytes

    @property
    def first_position(self) -> int:
        """The first event in it."""
        return self.after_position + 1

    @property
    def events(self) -> int:
        """How many events are in it."""
        return self.last_position - self.after_position

    @property
    def file_name(self) -> str:
        """The name of its file; the chain in it stands for all that it holds."""
        places = f"{self.first_position:012d}-{self.last_position:012d}"
        return f"events-{self.log_id}-{places}-{self.chain.hex()[:16]}{SUFFIX}"


class Found(NamedTuple):
    """What a finished file turned out to be; ``hashes`` is the digest of its events' hashes."""

    size_bytes: int
    sha256: bytes
    index_sha256: bytes
    block_starts: Sequence[int]
    recorded_from: datetime
    recorded_until: datetime
    hashes: bytes


class SpanReader:
    """Reads the log the way an archive needs it, in pages, each a short read of its own.

    Args:
        database: where the log is.
        file_events: events of a file, about.
    """

    def __init__(self, database: Database, *, file_events: int) -> None:
        self._database = database
        self._file_events = file_events

    def next(self, after: int, last: int) -> LogSpan:
        """Return the range after a position that fills a file; ``last`` ends a commit."""
        with self._database.read() as unit:
            proofs = EventProofRepository(unit.session)
            start, chain_before = proofs.get_start(after)
            end, chain = proofs.get_start(min(last, after + self._file_events))
            if end <= after:
                # One commit that is larger than a file: it is not torn apart.
                (link,) = proofs.list_links(after_position=after, to_position=last, limit=1)
                end, chain = link.last_position, link.chain
        if start != after:
            raise SyncError(f"no commit of the log ends at {after}, where the archive does")
        return LogSpan(DEFAULT_LOG, after, chain_before, end, chain)

    def left_behind(self, directory: Path, after: int, last: int) -> LogSpan | None:
        """Return the range of a finished file that a run did not live to enter, if there is one."""
        found = None
        for path in sorted(directory.glob(f"events-{DEFAULT_LOG}-{after + 1:012d}-*{SUFFIX}")):
            end = path.name.split("-")[3]
            if end.isdecimal() and after < int(end) <= last:
                with self._database.read() as unit:
                    proofs = EventProofRepository(unit.session)
                    _, chain_before = proofs.get_start(after)
                    span = LogSpan(DEFAULT_LOG, after, chain_before, *proofs.get_start(int(end)))
                if span.file_name == path.name:
                    found = span
        return found

    def copy(self, span: LogSpan, file: BinaryIO) -> None:
        """Write a range into an open file, holding every event and every commit to its hash.

        Raises:
            SyncError: the log does not hold.
        """
        writer = ArchiveWriter(file, log_id=span.log_id, first_position=span.first_position)
        lines, chain = self._lines(span), span.chain_before
        for link in self._links(span):
            digest = hashlib.sha256(chain)
            for position in range(link.last_position - link.events + 1, link.last_position + 1):
                line = _held(next(lines, None), position)
                writer.add(line)
                digest.update(line.row_hash)
            if digest.digest() != link.chain:
                raise _wrong(link.last_position)
            chain = link.chain
        if chain != span.chain or next(lines, None) is not None:
            raise _wrong(span.last_position)
        writer.finish(span.chain)

    def inspect(self, path: Path, span: LogSpan) -> Found | None:
        """Hold a finished file against the log, event by event; None: it is not the same."""
        hashes, rows = hashlib.sha256(), self._rows(span)
        with path.open("rb") as file:
            try:
                index = unpack_index(raw := read_raw_index(file))
                times = [_compare(file, block, rows, hashes) for block in index.blocks]
            except DamagedError:
                return None
            ends = (index.log_id, index.first_position, index.last_position, index.chain)
            if ends != (span.log_id, span.first_position, span.last_position, span.chain):
                return None
            return Found(
                size_bytes=file.seek(0, os.SEEK_END),
                sha256=digest_of(file),
                index_sha256=hashlib.sha256(raw).digest(),
                block_starts=[block.first_position for block in index.blocks],
                recorded_from=min(earliest for earliest, _ in times),
                recorded_until=max(latest for _, latest in times),
                hashes=hashes.digest(),
            )

    def _lines(self, span: LogSpan) -> Iterator[StoredLine]:
        return self._paged(
            span,
            lambda unit, after: EventArchiveRepository(unit.session).list_lines(
                after_position=after, to_position=span.last_position, limit=PAGE
            ),
            lambda line: line.position,
        )

    def _rows(self, span: LogSpan) -> Iterator[ProvenRow]:
        return self._paged(
            span,
            lambda unit, after: EventProofRepository(unit.session).list_rows(
                after_position=after, to_position=span.last_position, limit=PAGE
            ),
            lambda row: row.position,
        )

    def _links(self, span: LogSpan) -> Iterator[Link]:
        return self._paged(
            span,
            lambda unit, after: EventProofRepository(unit.session).list_links(
                after_position=after, to_position=span.last_position, limit=PAGE
            ),
            lambda link: link.last_position,
        )

    def _paged(
        self,
        span: LogSpan,
        page: Callable[[UnitOfWork, int], Sequence[Row]],
        place: Callable[[Row], int],
    ) -> Iterator[Row]:
        after = span.after_position
        while after < span.last_position:
            with self._database.read() as unit:
                found = page(unit, after)
            if not found:
                return
            yield from found
            after = place(found[-1])


def _held(line: StoredLine | None, position: int) -> Line:
    if line is None or line.position != position:
        raise _wrong(position)
    held = Line(line.line.encode(), line.row_hash)
    if hashlib.sha256(held.text).digest() != held.row_hash:
        raise _wrong(position)
    return held


def _wrong(position: int) -> SyncError:
    return SyncError(
        f"the event log does not hold at position {position}, so nothing there is archived: "
        "`rootstream-db events verify` says what is wrong",
        position=position,
    )


def _compare(
    file: BufferedReader, block: Block, rows: Iterator[ProvenRow], hashes: Hash
) -> tuple[datetime, datetime]:
    """Hold a block against the rows of the log; return when they were recorded, from and until."""
    times = []
    for position, line in enumerate(read_block(file, block), block.first_position):
        row = next(rows, None)
        if row is None or not row.holds or row != proof_of(line, position=position):
            raise DamagedError("differs from the log")
        hashes.update(row.row_hash)
        times.append(row.recorded_at)
    return min(times), max(times)
