"""Holding the log against its own hashes, and both against anchors kept elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from rootstream_db.database import Database
from rootstream_db.errors import EventArchiveError, EventArchiveMissingError
from rootstream_db.repositories.event_archives import EventArchiveRepository
from rootstream_db.repositories.event_proofs import EventProofRepository, Link, LogEnd, ProvenRow
from rootstream_db.repositories.events import LogHead
from rootstream_db.services.event_archive.reader import ArchiveReader
from rootstream_db.services.event_store.anchors import Anchor

PAGE: Final = 5000
"""Rows fetched at a time."""


class Problem(StrEnum):
    """What is wrong with the log."""

    CHANGED_ROW = "changed row"
    MISSING_ROW = "missing row"
    ADDED_ROW = "added row"
    CHANGED_COMMIT = "changed commit"
    MISSING_COMMIT = "missing commit"
    ADDED_COMMIT = "added commit"
    BROKEN_CHAIN = "broken chain"
    MOVED_HEAD = "moved head"
    TRUNCATED_TAIL = "truncated tail"
    MISSING_ARCHIVE = "missing archive"
    CHANGED_ARCHIVE = "changed archive"
    OTHER_HISTORY = "other history"


@dataclass(frozen=True, slots=True)
class Finding:
    """The first thing that is wrong, between ``position`` and ``last``, which are often one."""

    problem: Problem
    position: int
    last: int
    explanation: str

    def __str__(self) -> str:
        place = f"position {self.position}"
        if self.last != self.position:
            place = f"positions {self.position} to {self.last}"
        return f"{self.problem} at {place}: {self.explanation}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What came of it.

    Attributes:
        after_position: where the verified part begins; the chain up to there was taken as stored.
        events: events that hold.
        anchors: anchors that were held against the log and hold.
        head: the end of the log.
        finding: the first thing that is wrong, or None.
    """

    after_position: int
    events: int
    anchors: int
    head: LogHead
    finding: Finding | None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.finding is None


class LogVerifier:
    """Reads the log once, in pages, and stops at the first thing that is wrong.

    Args:
        database: where the log is.
        anchors: what the log said earlier.
        progress: called with the number of events that were verified since the last call.
        archive: reads archived events.
        page: rows fetched at a time.
    """

    def __init__(
        self,
        database: Database,
        *,
        anchors: Iterable[Anchor] = (),
        progress: Callable[[int], object] | None = None,
        archive: ArchiveReader | None = None,
        page: int = PAGE,
    ) -> None:
        self._database = database
        self._archive = archive or ArchiveReader()
        self._anchors = sorted(anchors, key=lambda anchor: anchor.last_position)
        self._progress = progress
        self._page = page

    def verify(self, after_position: int) -> Verification:
        """Verify from the commit that contains the position after ``after_position`` to the end."""
        with self._database.read() as unit:
            proofs = EventProofRepository(unit.session)
            end = proofs.get_end()
            start, chain = proofs.get_start(after_position)
        check = _Check(start, chain, end, self._anchors)
        try:
            self._run(check, end.head.last_position)
        except _Wrong as wrong:
            finding: Finding | None = wrong.finding
        except EventArchiveError as error:
            finding = _finding(error, check.position + 1)
        else:
            finding = None
        return Verification(
            after_position=start,
            events=check.position - start,
            anchors=check.anchors_held,
            head=end.head,
            finding=finding,
        )

    def _run(self, check: _Check, to: int) -> None:
        rows = self._rows(check.position, to)
        reported = check.position
        for link in self._links(check.position, to):
            check.link(link, rows)
            if self._progress is not None and check.position - reported >= self._page:
                self._progress(check.position - reported)
                reported = check.position
        check.finish(rows)
        if self._progress is not None:
            self._progress(check.position - reported)

    def _rows(self, after: int, to: int) -> Iterator[ProvenRow]:
        while after < to:
            with self._database.read() as unit:
                archives = EventArchiveRepository(unit.session)
                found: Sequence[ProvenRow] = ()
                part = archives.find_after(after)
                if part is None:
                    found = EventProofRepository(unit.session).list_rows(
                        after_position=after, to_position=to, limit=self._page
                    )
                    # Asked again: they may have moved into a file just before.
                    part = archives.find_after(after)
            if part is not None:
                # What was archived since this began may follow ``to``, but no event its own file.
                yield from (
                    row
                    for row in self._archive.proofs(part)
                    if row.position <= to or row.position > part.until
                )
                after = part.until
                continue
            yield from found
            if len(found) < self._page:
                return
            after = found[-1].position

    def _links(self, after: int, to: int) -> Iterator[Link]:
        while True:
            with self._database.read() as unit:
                found = EventProofRepository(unit.session).list_links(
                    after_position=after, to_position=to, limit=self._page
                )
            yield from found
            if len(found) < self._page:
                return
            after = found[-1].last_position


def _finding(error: EventArchiveError, position: int) -> Finding:
    missing = isinstance(error, EventArchiveMissingError)
    problem = Problem.MISSING_ARCHIVE if missing else Problem.CHANGED_ARCHIVE
    first = error.first_position
    if position <= error.last_position:
        first = max(first, position)
    return Finding(problem, first, error.last_position, str(error))


class _Wrong(Exception):  # noqa: N818 - it ends the search, it is no failure
    def __init__(self, problem: Problem, position: int, explanation: str, *, last: int = 0) -> None:
        super().__init__(explanation)
        self.finding = Finding(problem, position, max(last, position), explanation)


class _Check:
    """What holds so far: everything up to ``position``, with ``chain`` over it."""

    def __init__(self, position: int, chain: bytes, end: LogEnd, anchors: list[Anchor]) -> None:
        self.position = position
        self.chain = chain
        self.anchors_held = 0
        self._end = end
        self._attested = position
        self._anchors = [
            anchor
            for anchor in anchors
            if anchor.log_id == end.head.log_id and anchor.last_position >= position
        ]
        self._hold_anchors()

    def link(self, link: Link, rows: Iterator[ProvenRow]) -> None:
        """Hold the next commit against the rows it stands for."""
        first = link.last_position - link.events
        if link.events < 1 or first < self.position:
            raise _Wrong(
                Problem.CHANGED_COMMIT if link.events < 1 else Problem.ADDED_COMMIT,
                link.last_position,
                f"the commit that ends here claims {link.events} events, {self.position} were "
                "committed before",
            )
        if first > self.position:
            self._explain_gap(link, rows)
        digest = hashlib.sha256(self.chain)
        recorded_at = None
        for expected in range(first + 1, link.last_position + 1):
            row = self._held(next(rows, None), expected)
            digest.update(row.row_hash)
            recorded_at = row.recorded_at
        self._require_chain(link, digest.digest(), recorded_at)
        self.position, self.chain = link.last_position, link.chain
        self._hold_anchors()

    def finish(self, rows: Iterator[ProvenRow]) -> None:
        """Hold the head against what was read up to it."""
        head = self._end.head
        if self.position < head.last_position:
            self._require_event(rows)
        self._refuse_beyond(self._end)
        if self.position < head.last_position:
            raise _Wrong(Problem.MISSING_COMMIT, self.position + 1, "no commit stands for it")
        if self._end.covered is not None:
            raise _Wrong(Problem.ADDED_ROW, self._end.covered, "the archive has it already")
        # The last file is held against its digest when nothing more is asked of it.
        for row in rows:
            raise _Wrong(Problem.ADDED_ROW, row.position, "the file goes beyond the log")
        if self._anchors:
            self._miss_anchor(self._anchors[0])
        if head.chain != self.chain:
            raise _Wrong(
                Problem.MOVED_HEAD, self.position, "the head has another chain than the last commit"
            )

    @staticmethod
    def _refuse_beyond(end: LogEnd) -> None:
        """Refuse events beyond the head, and commits that stand for none."""
        why = f"it is beyond the head of the log, which says {end.head.last_position}"
        if end.beyond is not None:
            raise _Wrong(Problem.ADDED_ROW, end.beyond, why)
        if end.commit_beyond is not None:
            raise _Wrong(Problem.ADDED_COMMIT, end.commit_beyond, why)

    def _require_event(self, rows: Iterator[ProvenRow]) -> None:
        row, at, last = next(rows, None), self.position + 1, self._end.head.last_position
        if row is None:
            explanation = f"the log ends before it, its head says {last}"
            raise _Wrong(Problem.MISSING_ROW, at, explanation, last=last)
        self._held(row, at)

    @staticmethod
    def _held(row: ProvenRow | None, expected: int) -> ProvenRow:
        if row is None or row.position != expected:
            raise _Wrong(Problem.MISSING_ROW, expected, "there is no event")
        if not row.holds:
            raise _Wrong(Problem.CHANGED_ROW, expected, "its hash is not that of what the row says")
        return row

    def _explain_gap(self, link: Link, rows: Iterator[ProvenRow]) -> None:
        """Say what is wrong with events that no commit stands for."""
        at, begins = self.position + 1, link.last_position - link.events + 1
        self._held(next(rows, None), at)
        explanation = f"no commit stands for it: the next one begins at {begins}"
        raise _Wrong(Problem.MISSING_COMMIT, at, explanation)

    @staticmethod
    def _require_chain(link: Link, chain: bytes, recorded_at: datetime | None) -> None:
        first = link.last_position - link.events + 1
        if chain != link.chain:
            raise _Wrong(
                Problem.BROKEN_CHAIN,
                first,
                "the chain is not that of these events and of all before them",
                last=link.last_position,
            )
        if link.recorded_at != recorded_at:
            raise _Wrong(
                Problem.CHANGED_COMMIT,
                first,
                "the time of the commit is not that of its events",
                last=link.last_position,
            )

    def _hold_anchors(self) -> None:
        """Hold the anchors up to here against the chain; each must name the end of a commit."""
        while self._anchors and self._anchors[0].last_position <= self.position:
            anchor = self._anchors[0]
            if (anchor.last_position, anchor.chain) != (self.position, self.chain):
                self._miss_anchor(anchor)
            del self._anchors[0]
            self._attested = anchor.last_position
            self.anchors_held += 1

    def _miss_anchor(self, anchor: Anchor) -> None:
        """Say what an anchor that does not hold tells."""
        head = self._end.head
        facts: dict[str, Any] = {"last": anchor.last_position}
        said = f"the anchor of {anchor.time.isoformat(timespec='seconds')}"
        if anchor.epoch != head.epoch:
            raise _Wrong(
                Problem.OTHER_HISTORY,
                self._attested + 1,
                f"{said} knows other events: the log was restored since, or rewritten",
                **facts,
            )
        if anchor.last_position > head.last_position:
            raise _Wrong(
                Problem.TRUNCATED_TAIL,
                head.last_position + 1,
                f"{said} knows events up to {anchor.last_position}",
                **facts,
            )
        raise _Wrong(Problem.BROKEN_CHAIN, self._attested + 1, f"{said} has another chain", **facts)
