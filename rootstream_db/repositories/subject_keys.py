"""Keys of persons: found, made once, emptied for ever."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import and_, delete, null, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from rootstream_db.models.event_archive import EventArchiveAggregate, EventArchiveSubject
from rootstream_db.models.events import EventLog, Snapshot
from rootstream_db.models.subject_keys import SubjectKey
from rootstream_db.repositories.base import Repository


class Erasure(NamedTuple):
    """One entry of the erasure ledger."""

    subject_id: uuid.UUID
    erased_at: datetime


class SubjectKeyRepository(Repository[SubjectKey]):
    """Sealed keys by person; a row, once there, is never deleted."""

    model = SubjectKey

    def find_wrapped(self, subject_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, bytes | None]:
        """Return the sealed keys of those who have one; None for the erased."""
        query = select(SubjectKey.subject_id, SubjectKey.wrapped).where(
            SubjectKey.subject_id.in_(subject_ids)
        )
        return {row.subject_id: row.wrapped for row in self.session.execute(query)}

    def add_if_missing(self, subject_id: uuid.UUID, wrapped: bytes, key_id: int) -> None:
        """Store a key unless the person has one, or had one that was erased."""
        self.session.execute(
            insert(SubjectKey)
            .values(subject_id=subject_id, wrapped=wrapped, wrapped_key_id=key_id)
            .on_conflict_do_nothing()
        )

    def erase(self, subject_id: uuid.UUID, now: datetime) -> bool:
        """Empty the person's row, or enter that there is nothing; False if that was so before."""
        emptied = {"wrapped": null(), "wrapped_key_id": null(), "erased_at": now}
        statement = insert(SubjectKey).values(subject_id=subject_id, **emptied)
        erasing = statement.on_conflict_do_update(
            index_elements=[SubjectKey.subject_id],
            set_=emptied,
            where=SubjectKey.erased_at.is_(None),
        )
        found = self.session.execute(erasing.returning(SubjectKey.subject_id))
        return found.first() is not None

    def list_erased(self, *, after: Erasure | None = None, limit: int = 1000) -> Sequence[Erasure]:
        """Return a page of the erasure ledger, in the order of the erasures."""
        place = (SubjectKey.erased_at, SubjectKey.subject_id)
        query = select(SubjectKey.subject_id, SubjectKey.erased_at).where(
            SubjectKey.erased_at.is_not(None)
        )
        if after is not None:
            query = query.where(tuple_(*place) > (after.erased_at, after.subject_id))
        rows = self.session.execute(query.order_by(*place).limit(limit))
        return [Erasure(subject_id, erased_at) for subject_id, erased_at in rows if erased_at]

    def drop_snapshots(self, subject_id: uuid.UUID) -> int:
        """Delete the snapshots of every aggregate that may have an event about the person.

        Of archived events the index knows roughly where they are: snapshots of others may go with
        them, which costs those a longer replay once.
        """
        known = select(EventLog.aggregate_type, EventLog.aggregate_id)
        aggregate, subject = EventArchiveAggregate, EventArchiveSubject
        same_file = and_(
            aggregate.log_id == subject.log_id, aggregate.last_position == subject.last_position
        )
        archived = (
            select(aggregate.aggregate_type, aggregate.aggregate_id)
            .join(subject, same_file)
            .where(subject.subject_id == subject_id, aggregate.blocks.overlap(subject.blocks))
        )
        aggregates = known.where(EventLog.subject_id == subject_id).union(archived)
        place = tuple_(Snapshot.aggregate_type, Snapshot.aggregate_id)
        statement = delete(Snapshot).where(place.in_(aggregates))
        gone = self.session.execute(
            statement.returning(Snapshot.version),
            execution_options={"synchronize_session": False},
        )
        return len(gone.all())
