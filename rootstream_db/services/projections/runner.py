"""One batch of one projection: events, read model and checkpoint in one transaction.

The checkpoint's row is locked from the beginning of the batch to its end. Whoever cannot lock it
does nothing, so a batch is never done twice at a time, however late a process is with its lease.
The lease on top says whose turn the next batch is, so that processes do not take turns at random.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from rootstream_db.errors import (
    DatabaseUnavailableError,
    TransientStorageError,
    UnknownEventVersionError,
)
from rootstream_db.models import ProjectionCheckpoint
from rootstream_db.repositories.events import LogHead, RecordedEvent
from rootstream_db.services.projections.projection import Projection
from rootstream_db.services.projections.status import (
    Outcome,
    ProjectionRun,
    described,
    divergence,
    retry_delay,
)
from rootstream_db.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    from rootstream_db.database import Database
    from rootstream_db.services.event_store import EventStore

BATCH: Final = 500
"""Events of one transaction."""

WINDOW: Final = 20
"""Batches of the log looked through at a time, for projections that want few of its events."""

LEASE: Final = timedelta(seconds=15)
"""How long a process that died keeps others waiting."""

HEALTHY: Final[dict[str, Any]] = {
    "attempts": 0,
    "failed_position": None,
    "last_error": None,
    "retry_at": None,
}

_logger: Final = logging.getLogger("rootstream_db.projections")


@dataclass
class _Attempt:
    """What a batch got hold of, for those who ask why it failed."""

    limit: int
    events: Sequence[RecordedEvent] = field(default_factory=list)

    @property
    def size(self) -> int:
        """How many events it was, or was to be."""
        return len(self.events) or self.limit

    def stopped_at(self, error: Exception) -> int | None:
        """Return the position of the first event it may be about; None: it is about none."""
        if self.events:
            return self.events[0].position
        return error.position if isinstance(error, UnknownEventVersionError) else None


class ProjectionRunner:
    """Moves projections on, a batch at a time, as one owner of leases.

    Args:
        database: where events, read models and checkpoints are.
        events: reads the log.
        batch: events of one transaction.
        lease: how long the right to go on lasts.
    """

    def __init__(
        self,
        database: Database,
        events: EventStore,
        *,
        batch: int = BATCH,
        lease: timedelta = LEASE,
    ) -> None:
        self.owner = f"{socket.gethostname()[:100]}/{os.getpid()}/{secrets.token_hex(4)}"
        self._database = database
        self._events = events
        self._batch_size = batch
        self._lease = lease

    def advance(self, projection: Projection, *, patient: bool = False) -> ProjectionRun:
        """Apply the next batch.

        If it fails it is halved until the one event is found that cannot be applied; what comes
        before is kept. With ``patient`` such an event is left alone until its next try is due.

        Raises:
            DatabaseUnavailableError: there is nothing wrong with the projection.
        """
        limit = self._batch_size
        while True:
            attempt = _Attempt(limit)
            batch = partial(
                self._apply_next, projection=projection, limit=limit, patient=patient, got=attempt
            )
            try:
                # Again after an unknown outcome too: the checkpoint tells whether it happened.
                return self._database.run(batch, idempotent=True)
            except DatabaseUnavailableError:
                raise
            except Exception as error:
                position = attempt.stopped_at(error)
                if position is None:
                    raise
                if attempt.size == 1:
                    return self._record_failure(projection, position, error)
                limit = attempt.size // 2

    def restart(self, projection: Projection, *, anew: bool = False) -> int:
        """Take the lease, empty the read model and go back to the beginning.

        A restart that was begun and not finished goes on where it is, unless it is wanted ``anew``.

        Returns:
            The position at which the read model will be whole again.
        """

        def begin(work: UnitOfWork) -> int:
            checkpoint = work.checkpoints.lock_one(projection.name)
            head = work.events.get_head()
            lease = {"owner": self.owner, "lease_until": work.now + self._lease}
            under_way = checkpoint.rebuild_to is not None and not divergence(checkpoint, head)
            if checkpoint.rebuild_to is not None and under_way and not anew:
                _save(work, checkpoint, lease)
                return checkpoint.rebuild_to
            projection.reset(work)
            start = {
                "last_position": 0,
                "epoch": head.epoch,
                "rebuild_to": head.last_position or None,
            }
            _save(work, checkpoint, {**HEALTHY, **lease, **start})
            return head.last_position

        return self._database.run(begin, idempotent=True)

    def release(self, projection: Projection) -> None:
        """Let others go on with the projection at once."""
        self._database.run(
            lambda work: work.checkpoints.release(projection.name, owner=self.owner),
            idempotent=True,
        )

    def _apply_next(
        self,
        work: UnitOfWork,
        *,
        projection: Projection,
        limit: int,
        patient: bool,
        got: _Attempt,
    ) -> ProjectionRun:
        got.events = []
        checkpoint = work.checkpoints.lock_free(projection.name, owner=self.owner, now=work.now)
        if checkpoint is None:
            return ProjectionRun(name=projection.name, outcome=Outcome.BUSY)
        head = work.events.get_head()
        refused = _refusal(work, checkpoint, head, patient=patient)
        if refused is not None:
            return refused
        # An event that failed is the next one: it is tried alone.
        limit = got.limit = 1 if checkpoint.attempts else limit
        last = min(head.last_position, checkpoint.last_position + WINDOW * self._batch_size)
        got.events = self._next_events(work, projection, checkpoint, last=last, limit=limit)
        if got.events:
            projection.apply_batch(work, got.events)
        position = got.events[-1].position if len(got.events) == limit else last
        self._move(work, checkpoint, position)
        return ProjectionRun(
            name=projection.name,
            outcome=Outcome.CURRENT if position == checkpoint.last_position else Outcome.ADVANCED,
            events=len(got.events),
            position=position,
            head=head.last_position,
        )

    def _next_events(
        self,
        work: UnitOfWork,
        projection: Projection,
        checkpoint: ProjectionCheckpoint,
        *,
        last: int,
        limit: int,
    ) -> list[RecordedEvent]:
        found = self._events.read_all(
            after_position=checkpoint.last_position,
            to_position=last,
            types=projection.types,
            work=work,
            batch=limit,
        )
        return list(islice(found, limit))

    def _move(self, work: UnitOfWork, checkpoint: ProjectionCheckpoint, position: int) -> None:
        """Save the place reached; if there is nothing new, renew a lease that is half over."""
        moved = position > checkpoint.last_position
        fresh = checkpoint.lease_until and checkpoint.lease_until > work.now + self._lease / 2
        if not moved and fresh and checkpoint.owner == self.owner:
            return
        changes: dict[str, Any] = {"owner": self.owner, "lease_until": work.now + self._lease}
        if moved:
            changes |= {"last_position": position, **HEALTHY}
        if checkpoint.rebuild_to is not None and position >= checkpoint.rebuild_to:
            changes["rebuild_to"] = None
        _save(work, checkpoint, changes)

    def _record_failure(
        self, projection: Projection, position: int, error: Exception
    ) -> ProjectionRun:
        def record(work: UnitOfWork) -> int | None:
            checkpoint = work.checkpoints.lock_free(projection.name, owner=self.owner, now=work.now)
            if checkpoint is None:
                return None
            attempts = checkpoint.attempts + 1
            failure = {
                "attempts": attempts,
                "failed_position": position,
                "last_error": described(error),
                "retry_at": work.now + retry_delay(attempts),
                "owner": self.owner,
                "lease_until": work.now + self._lease,
            }
            _save(work, checkpoint, failure)
            return attempts

        attempts = self._database.run(record)
        level = logging.ERROR if attempts == 1 else logging.WARNING
        message = "projection %s stops at event %d, attempt %s: %s"
        facts = (projection.name, position, attempts, described(error))
        _logger.log(level, message, *facts, exc_info=error if attempts == 1 else None)
        return ProjectionRun(
            name=projection.name,
            outcome=Outcome.FAILED,
            position=position - 1,
            error=error,
        )


def _refusal(
    work: UnitOfWork, checkpoint: ProjectionCheckpoint, head: LogHead, *, patient: bool
) -> ProjectionRun | None:
    """Return why the next event is not tried now, or None."""
    run = partial(
        ProjectionRun,
        name=checkpoint.name,
        position=checkpoint.last_position,
        head=head.last_position,
    )
    diverged = divergence(checkpoint, head)
    if diverged is not None:
        return run(outcome=Outcome.DIVERGED, error=diverged)
    if patient and checkpoint.retry_at is not None and work.now < checkpoint.retry_at:
        return run(outcome=Outcome.FAILED)
    return None


def _save(work: UnitOfWork, checkpoint: ProjectionCheckpoint, changes: dict[str, Any]) -> None:
    if not work.checkpoints.save(checkpoint, changes):
        raise TransientStorageError(f"somebody else moved the checkpoint of {checkpoint.name}")
