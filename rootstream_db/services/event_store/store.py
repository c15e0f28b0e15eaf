"""The event store: what happened, appended in the transaction in which it happened."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from rootstream_db.clock import Clock, utc_now
from rootstream_db.database import Database
from rootstream_db.repositories.events import RecordedEvent
from rootstream_db.security.keyring import development_keyring
from rootstream_db.services.event_archive.reader import ArchiveReader
from rootstream_db.services.event_store.aggregates import AggregateLoader
from rootstream_db.services.event_store.anchors import Anchor
from rootstream_db.services.event_store.appender import AuditAppender
from rootstream_db.services.event_store.payload import MAX_PAYLOAD_BYTES
from rootstream_db.services.event_store.pending import NewEvent, PendingEvent, prepare
from rootstream_db.services.event_store.personal import open_personal
from rootstream_db.services.event_store.verification import LogVerifier, Verification
from rootstream_db.services.event_store.wakeup import Wakeup
from rootstream_db.services.event_store.writing import enqueue, write_pending
from rootstream_db.services.subject_keys import SubjectKeys
from rootstream_db.unit_of_work import UnitOfWork


class EventStore(AggregateLoader):
    """Appends events in the caller's unit of work and reads them in order.

    Appended events wait in the unit and are written last before its commit, all in one call, so
    that the end of the log is locked for the shortest time.

    Args:
        database: where reads without a unit of work go.
        clock: the source of the time in event ids.
        max_payload_bytes: the longest JSON text of one event's data, or of its metadata.
        wakeup: tells the readers in ``follow`` at once; without it they poll.
        subjects: the keys that personal fields are sealed with; default: under the development
            master key.
        archive: reads archived events; without it they are out of reach.
        on_append: shown the events that a unit appends, to plan what follows its commit.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock = utc_now,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
        wakeup: Wakeup | None = None,
        subjects: SubjectKeys | None = None,
        archive: ArchiveReader | None = None,
        on_append: Callable[[UnitOfWork, Sequence[PendingEvent]], object] | None = None,
    ) -> None:
        super().__init__(database, wakeup=wakeup, archive=archive)
        self._clock = clock
        self._max_payload_bytes = max_payload_bytes
        self._on_append = on_append
        self.subjects = subjects or SubjectKeys(database, development_keyring)

    def append(  # noqa: PLR0917 - to this aggregate, this event: the order of the sentence
        self,
        work: UnitOfWork,
        aggregate_type: str,
        aggregate_id: str,
        event_type: str,
        data: dict[str, Any],
        *,
        expected_version: int | None = None,
        personal: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        schema_version: int = 1,
        event_id: uuid.UUID | None = None,
        user_id: int | None = None,
        subject_id: uuid.UUID | None = None,
        correlation_id: str | None = None,
        causation_id: uuid.UUID | None = None,
        occurred_at: datetime | None = None,
    ) -> PendingEvent:
        """Append one event when the unit of work commits.

        ``expected_version`` is the version the aggregate must be at: a number, ``NEW``, ``EXISTS``,
        or None for any. The arguments after it are those of ``NewEvent``.

        Raises:
            ValidationError: at once: the event cannot be stored, or not be read back as it is.
            VersionConflictError: at the commit: the aggregate was not at the expected version.
            ConflictError: at the commit: the event id is taken by another event.
        """
        event = NewEvent(
            event_type=event_type,
            data=data,
            personal=personal,
            metadata=metadata,
            schema_version=schema_version,
            event_id=event_id,
            user_id=user_id,
            subject_id=subject_id,
            correlation_id=correlation_id,
            causation_id=causation_id,
            occurred_at=occurred_at,
        )
        (pending,) = self.append_many(
            work, aggregate_type, aggregate_id, [event], expected_version=expected_version
        )
        return pending

    def append_many(
        self,
        work: UnitOfWork,
        aggregate_type: str,
        aggregate_id: str,
        events: Iterable[NewEvent],
        *,
        expected_version: int | None = None,
    ) -> list[PendingEvent]:
        """Append events to one aggregate when the unit of work commits; see ``append``.

        Args:
            work: the unit whose fate the events share.
            aggregate_type: kind of thing they happened to.
            aggregate_id: which one.
            events: what happened, in order; none of them is appended if one is refused.
            expected_version: the version the aggregate must be at before the first of them.
        """
        prepared = self.prepare(
            aggregate_type,
            aggregate_id,
            events,
            expected_version=expected_version,
            now=work.now,
        )
        self.append_prepared(work, prepared)
        return prepared

    def prepare(
        self,
        aggregate_type: str,
        aggregate_id: str,
        events: Iterable[NewEvent],
        *,
        expected_version: int | None = None,
        now: datetime | None = None,
    ) -> list[PendingEvent]:
        """Check events and fix them as they are, for ``append_prepared``.

        Args:
            aggregate_type: kind of thing they happened to.
            aggregate_id: which one.
            events: what happened, in order.
            expected_version: the version the aggregate must be at before the first of them.
            now: when they happened unless they say so themselves; default: now.

        Raises:
            ValidationError: one of them cannot be stored, or not be read back as it is.
        """
        return prepare(
            events,
            (aggregate_type, aggregate_id),
            expected_version=expected_version,
            now=now or self._clock(),
            clock=self._clock,
            max_bytes=self._max_payload_bytes,
            keys=self.subjects,
        )

    def append_prepared(self, work: UnitOfWork, events: Sequence[PendingEvent]) -> None:
        """Append prepared events, of any aggregates, when the unit of work commits.

        A unit that failed may be tried again with the same events.
        """
        announce = self._wakeup.announce if self._wakeup is not None else None
        enqueue(work, events, announce=announce)
        if self._on_append is not None:
            self._on_append(work, events)
        self.plan_snapshots(work, events)

    def appender(self, **options: Any) -> AuditAppender:
        """Return an appender for events at a high rate, with the options of ``AuditAppender``.

        Close it, or use it as a context manager: what waits is written then.
        """
        return AuditAppender(self._database, self, **options)

    def flush(self, work: UnitOfWork) -> None:
        """Write the unit's pending events now instead of at its commit.

        Afterwards their positions and versions are known, and all other appends wait until the unit
        ends: end it soon.

        Raises:
            VersionConflictError: an aggregate was not at the expected version. Like every error of
                the database it has this form once it leaves the unit or a savepoint.
            ConflictError: an event id is taken by another event.
            ValidationError: an event id is used twice in the unit.
        """
        write_pending(work)

    def personal_of(
        self, event: RecordedEvent, *, work: UnitOfWork | None = None
    ) -> dict[str, Any]:
        """Return the personal fields of an event, opened; ``ERASED`` for each that was erased.

        Under ``audit`` it tells where the request came from, if an audit context knew. Keys are
        read when first needed and kept for a minute.

        Args:
            event: an event as it was read.
            work: read keys inside this unit, which sees its own erasures.

        Raises:
            SealBrokenError: a field is not what was sealed for this place.
            UnknownKeyError: the master key is not in the key ring.
        """
        (personal,) = open_personal([event], self.subjects, work)
        return personal

    def personal_of_many(
        self, events: Iterable[RecordedEvent], *, work: UnitOfWork | None = None
    ) -> list[dict[str, Any]]:
        """Return the personal fields of each event, with one query for all keys."""
        return open_personal(events, self.subjects, work)

    def anchor(self) -> Anchor:
        """Return what the log says about itself now, to be kept where its database cannot reach."""
        return Anchor.of(self.head(), self._clock())

    def verify(
        self,
        *,
        after_position: int = 0,
        anchors: Iterable[Anchor] = (),
        progress: Callable[[int], object] | None = None,
    ) -> Verification:
        """Hold the log against its own hashes, and tell the first thing that is wrong.

        Every row is hashed anew, every link of the chain made anew, up to the head. Who can write
        every table can also write new hashes: only anchors from outside show that.

        Args:
            after_position: begin with the commit that holds the next position; the chain up to it
                is taken as stored.
            anchors: what the log said earlier, for example from ``read_anchors``.
            progress: called with the number of events verified since its last call.
        """
        verifier = LogVerifier(
            self._database, anchors=anchors, progress=progress, archive=self._archive
        )
        return verifier.verify(after_position)

    def begin_epoch(self, work: UnitOfWork) -> uuid.UUID:
        """Tell all readers that the history they know was cut; return the log's new epoch.

        For tools that restore a database to an earlier time: the positions after it are given out
        again, to other events. Readers with a ``Cursor`` of before get ``LogDivergedError``.

        Raises:
            AppendOnlyError: the database's role has no right to maintain the log. Like every error
                of the database it has this form once it leaves the unit.
        """
        return work.events.begin_epoch()
