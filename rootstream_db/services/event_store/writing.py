"""The way of pending events from a unit of work into the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Final

from rootstream_db.database.units import ReadSession
from rootstream_db.errors import StorageError
from rootstream_db.services.event_store.batch import batch_of, put
from rootstream_db.services.event_store.pending import PendingEvent
from rootstream_db.unit_of_work import UnitOfWork

_KIND: Final = "events"
"""The name of the list in ``UnitOfWork.pending``."""


def enqueue(
    work: UnitOfWork,
    events: Sequence[PendingEvent],
    *,
    announce: Callable[[], object] | None = None,
) -> None:
    """Have the events written last before the unit commits, in one call with all others.

    Args:
        work: the unit.
        events: what to write.
        announce: called once the unit has committed.

    Raises:
        StorageError: the unit is read-only.
    """
    if isinstance(work.session, ReadSession):
        # Said here, because a unit of Database.read() has no transaction that could refuse.
        raise StorageError("this unit of work is read-only: open transaction() to append")
    pending = work.pending(_KIND)
    if events and not pending:
        # A key of its own each time: another before-commit action may append after this one ran.
        work.before_commit(partial(_write_last, work), key=object())
        if announce is not None:
            work.after_commit(announce, name="announcement of new events")
    pending.extend(events)


def write_pending(
    work: UnitOfWork, *, around: Callable[[], AbstractContextManager[object]] = nullcontext
) -> None:
    """Write what is pending in the unit; events learn where they stand.

    Args:
        work: the unit.
        around: makes the context in which the one statement runs.
    """
    pending: list[PendingEvent] = work.pending(_KIND)
    waiting = _not_written(work, pending)
    for event in waiting:
        if event.unsealed is not None:
            event.unsealed.seal(work, event)
    if waiting:
        batch = batch_of(waiting)
        with around():
            put(waiting, work.events.append_batch(batch))
    # What is written inside a savepoint may go with it: it is looked for again at the end.
    if not work.session.in_nested_transaction():
        pending.clear()


def _write_last(work: UnitOfWork) -> None:
    # Nothing of this action follows the statement, as something may where a unit writes early.
    write_pending(work, around=work.last_statement)


def _not_written(work: UnitOfWork, pending: Sequence[PendingEvent]) -> list[PendingEvent]:
    unsure = [event.event_id for event in pending if event.position is not None]
    stored = work.events.list_stored_ids(unsure) if unsure else set()
    return [event for event in pending if event.event_id not in stored]
