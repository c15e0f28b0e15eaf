"""The flush: moves increments from Redis to PostgreSQL exactly once, whatever dies in between.

What if we die right here? At each step of :meth:`Flusher.flush`:

1. before *take*: nothing has happened; the increments are where they were.
2. after *take*: one script has set the increments aside under their id and entered the id in the
   set of flushes. Nobody adds to them any more. The next flush, by whichever process, finds them.
3. in the transaction: PostgreSQL rolls it back, the receipt of the batch with it. As 2.
4. after the commit, or without knowing whether it happened: the receipt tells. A batch whose
   receipt is there is not added again.
5. before *finish*: as 4 for every batch; then the flush is forgotten.

Two processes that carry out the same flush meet at its receipts: the second waits for the first.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from rootstream_db.services.viewers.values import Delta, FlushResult, Visit, batches

if TYPE_CHECKING:
    from rootstream_db.database import Database
    from rootstream_db.services.viewers.presence import PendingFlush, Presence
    from rootstream_db.unit_of_work import UnitOfWork

logger = logging.getLogger("rootstream_db.viewers")

RECEIPTS_KEPT: Final = timedelta(days=7)
"""How long a receipt protects against a flush that Redis brings back, e.g. from a backup."""


@dataclass(slots=True)
class Sums:
    """What the batches of one call of ``flush`` add up to."""

    flush_ids: list[uuid.UUID] = field(default_factory=list)
    streams: int = 0
    heartbeats: int = 0
    views: int = 0
    watch_seconds: int = 0
    bytes_out: int = 0
    visits: int = 0
    repeated: int = 0
    unknown_streams: int = 0

    def add(self, batch: Batch, *, known: set[int]) -> None:
        """Count a batch that was carried out; unknown streams were not."""
        deltas = [delta for stream_id, delta in batch.deltas.items() if stream_id in known]
        self.streams += len(deltas)
        self.heartbeats += sum(delta.heartbeats for delta in deltas)
        self.views += sum(delta.views for delta in deltas)
        self.watch_seconds += sum(delta.watch_seconds for delta in deltas)
        self.bytes_out += sum(delta.bytes_out for delta in deltas)
        self.visits += sum(visit.stream_id in known for visit in batch.visits)
        self.unknown_streams += len(batch.deltas) - len(deltas)

    def result(self, seconds: float) -> FlushResult:
        """Return the sums for the caller."""
        return FlushResult(
            flush_ids=tuple(self.flush_ids),
            streams=self.streams,
            heartbeats=self.heartbeats,
            views=self.views,
            watch_seconds=self.watch_seconds,
            bytes_out=self.bytes_out,
            visits=self.visits,
            repeated=self.repeated,
            unknown_streams=self.unknown_streams,
            seconds=seconds,
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """The part of a flush that is one transaction: some streams, with all that is theirs."""

    receipt: uuid.UUID
    deltas: dict[int, Delta]
    visits: list[Visit]
    pseudonyms: list[bytes]
    present: dict[int, int]


class Flusher:
    """Carries out flushes, one's own and those that others left behind."""

    def __init__(self, database: Database, presence: Presence) -> None:
        self._database = database
        self._presence = presence

    def flush(self) -> FlushResult:
        """Move everything that Redis has been told to PostgreSQL; see ``ViewerManager.flush``."""
        started = time.monotonic()
        sums = Sums()
        self._presence.sweep()
        flush_id = self._presence.pending_id()
        if flush_id is not None:
            self._warn_if_rewound(flush_id)
            self._presence.take(flush_id)
        for pending in self._presence.pending():
            self._carry_out(pending, sums)
        return sums.result(time.monotonic() - started)

    def delete_old_receipts(self) -> int:
        """Delete receipts that no flush needs any more, unless one is still under way."""
        if self._presence.pending():
            return 0
        return self._database.run(
            lambda work: work.counter_flushes.delete_before(work.now - RECEIPTS_KEPT)
        )

    def _carry_out(self, pending: PendingFlush, sums: Sums) -> None:
        for batch in self._batches(pending):
            self._move(batch, sums)
        self._presence.finish(pending)
        sums.flush_ids.append(pending.flush_id)

    def _batches(self, pending: PendingFlush) -> list[Batch]:
        deltas, visits = self._presence.contents(pending)
        by_stream: dict[int, list[Visit]] = {}
        for visit in visits:
            by_stream.setdefault(visit.stream_id, []).append(visit)
        parts = batches(deltas.keys() | by_stream.keys(), pending.batch)
        return [
            self._batch(receipt_id(pending.flush_id, index), part, deltas, by_stream)
            for index, part in enumerate(parts)
        ]

    def _batch(
        self,
        receipt: uuid.UUID,
        part: Sequence[int],
        deltas: dict[int, Delta],
        by_stream: dict[int, list[Visit]],
    ) -> Batch:
        visits = [visit for stream_id in part for visit in by_stream.get(stream_id, ())]
        return Batch(
            receipt,
            deltas={stream_id: deltas.get(stream_id, Delta()) for stream_id in part},
            visits=visits,
            pseudonyms=self._presence.pseudonyms(visits),
            # A gauge, not an increment: the present number, whenever the flush was begun.
            present=self._presence.count(part),
        )

    def _move(self, batch: Batch, sums: Sums) -> None:
        known = self._database.run(lambda work: apply_batch(work, batch))
        if known is None:
            sums.repeated += 1
            return
        sums.add(batch, known=known)
        self._presence.publish_counts(
            {stream_id: batch.present[stream_id] for stream_id in known & batch.present.keys()}
        )

    def _warn_if_rewound(self, flush_id: uuid.UUID) -> None:
        """Say so when Redis has lost its latest moments, in a power cut or a failover.

        Increments not yet set aside cannot have a receipt, unless Redis has forgotten that they
        were set aside. They are not added again: what was told since cannot be told apart.
        """
        with self._database.read() as work:
            if work.counter_flushes.get(receipt_id(flush_id, 0)) is not None:
                logger.error(
                    "Redis went back to before flush %s, which PostgreSQL holds; viewer counts "
                    "told to Redis since it came back are lost",
                    flush_id,
                )


def receipt_id(flush_id: uuid.UUID, index: int) -> uuid.UUID:
    """Return the receipt of one batch of a flush; the first batch has the flush's own id."""
    return flush_id if index == 0 else uuid.uuid5(flush_id, str(index))


def apply_batch(work: UnitOfWork, batch: Batch) -> set[int] | None:
    """Add a batch to PostgreSQL inside ``work``.

    Returns:
        The streams that exist, or None if the batch is there already.
    """
    claimed = work.counter_flushes.claim(
        batch.receipt,
        flushed_at=work.now,
        streams=len(batch.deltas),
        increments=sum(delta.heartbeats for delta in batch.deltas.values()),
    )
    if not claimed:
        return None
    known = work.counter_flushes.lock_streams(batch.deltas.keys())
    deltas = {stream_id: batch.deltas[stream_id] for stream_id in sorted(known)}
    if deltas:
        _add_deltas(work, deltas)
        _add_visits(work, batch, known)
        work.counter_flushes.show_viewers({one: batch.present[one] for one in deltas})
    return known


def _add_deltas(work: UnitOfWork, deltas: dict[int, Delta]) -> None:
    added = list(deltas.values())
    work.counter_flushes.add_to_totals(
        {
            "stream_id": list(deltas),
            "heartbeats": [delta.heartbeats for delta in added],
            "views": [delta.views for delta in added],
            "watch_seconds": [delta.watch_seconds for delta in added],
            "bytes_out": [delta.bytes_out for delta in added],
        }
    )
    sessions = work.counter_flushes.lock_sessions(deltas.keys())
    belonging = [(sessions[one], delta) for one, delta in deltas.items() if one in sessions]
    if belonging:
        work.counter_flushes.add_to_sessions(
            {
                "session_id": [session_id for session_id, _ in belonging],
                "views": [delta.views for _, delta in belonging],
                "watch_seconds": [delta.watch_seconds for _, delta in belonging],
                "bytes_out": [delta.bytes_out for _, delta in belonging],
                "peak": [delta.peak for _, delta in belonging],
                "peak_at": [delta.peak_at for _, delta in belonging],
            }
        )


def _add_visits(work: UnitOfWork, batch: Batch, known: set[int]) -> None:
    pairs = zip(batch.visits, batch.pseudonyms, strict=True)
    rows = [(visit, pseudonym) for visit, pseudonym in pairs if visit.stream_id in known]
    if not rows:
        return
    work.viewer_sessions.add_many(
        {
            "started_at": [visit.started_at for visit, _ in rows],
            "ended_at": [visit.ended_at for visit, _ in rows],
            "stream_id": [visit.stream_id for visit, _ in rows],
            "user_id": [visit.user_id for visit, _ in rows],
            "viewer_hash": [pseudonym for _, pseudonym in rows],
            "watch_seconds": [visit.watch_seconds for visit, _ in rows],
            "bytes_out": [visit.bytes_out for visit, _ in rows],
        }
    )
