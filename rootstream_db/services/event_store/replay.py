"""Replay: the state that events add up to, with snapshots to start from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import chain
from typing import Any, Final, Generic, NamedTuple, TypeVar, cast

from rootstream_db.errors import SnapshotCorruptError, ValidationError
from rootstream_db.repositories.event_archives import EventArchiveRepository
from rootstream_db.repositories.events import RecordedEvent
from rootstream_db.repositories.snapshots import SnapshotRepository, StoredSnapshot
from rootstream_db.services.event_store.payload import check_time, encode
from rootstream_db.services.event_store.queries import AggregateQuery, archived_pages
from rootstream_db.services.event_store.reading import EventReader
from rootstream_db.services.event_store.writing import write_pending
from rootstream_db.unit_of_work import UnitOfWork

MAX_SNAPSHOT_BYTES: Final = 16 * 1024 * 1024
"""Largest JSON text of a snapshot's state."""

State = TypeVar("State")

_logger: Final = logging.getLogger(__name__)


class Replayed(NamedTuple, Generic[State]):
    """A state, and the version of the aggregate it is the state at."""

    state: State
    version: int


class EventReplayer(EventReader):
    """Turns events into states."""

    def replay(
        self,
        aggregate_type: str,
        aggregate_id: str,
        apply: Callable[[State, RecordedEvent], State],
        initial: State,
        *,
        to_version: int | None = None,
        to_time: datetime | None = None,
        state_schema: int = 1,
        work: UnitOfWork | None = None,
    ) -> Replayed[State]:
        """Return the state that the events of an aggregate add up to, and its version.

        With ``to_version`` or ``to_time`` it is the state the aggregate had then. If the state is a
        JSON object, replay starts from the latest snapshot that is not later; a corrupt one is
        logged and left aside.

        Args:
            aggregate_type: kind of thing.
            aggregate_id: which one.
            apply: returns the state after an event.
            initial: the state before the first event.
            to_version: the last version wanted; default: the latest.
            to_time: leave out what was recorded after this moment, by the database's clock.
            state_schema: the form of the state; snapshots of another form are left aside.
            work: read inside this unit.

        Raises:
            ValidationError: the version is negative, or the time has no time zone.
        """
        aggregate = (aggregate_type, aggregate_id)
        last = self._last_wanted(aggregate, to_version=to_version, to_time=to_time, work=work)
        state, version = initial, 0
        if isinstance(initial, dict):
            snapshot = self._usable_snapshot(aggregate, state_schema, to_version=last, work=work)
            if snapshot is not None:
                state, version = cast(State, snapshot.state), snapshot.version
                if version in {last, snapshot.aggregate_version}:
                    return Replayed(state, version)
        for event in self.read(*aggregate, after_version=version, to_version=last, work=work):
            state, version = apply(state, event), event.version
        return Replayed(state, version)

    def create_snapshot(
        self,
        aggregate_type: str,
        aggregate_id: str,
        state: dict[str, Any],
        version: int,
        *,
        state_schema: int = 1,
        work: UnitOfWork | None = None,
    ) -> None:
        """Keep the state of an aggregate at a version, so that replay can start there.

        Args:
            aggregate_type: kind of thing.
            aggregate_id: which one.
            state: what ``replay`` returned, a JSON object.
            version: what ``replay`` returned with it.
            state_schema: the form of the state; raise it when the form or the rules change.
            work: save inside this unit; default: in a transaction of its own.

        Raises:
            ValidationError: the state is not JSON, or the aggregate is not at that version yet.
        """
        encoded = encode(state, "state", max_bytes=MAX_SNAPSHOT_BYTES)
        with self._writing(work) as unit:
            saved = version > 0 and SnapshotRepository(unit.session).save(
                aggregate_type,
                aggregate_id,
                version=version,
                state=encoded,
                state_schema=state_schema,
            )
            if not saved:
                raise ValidationError(
                    f"{aggregate_type}/{aggregate_id} is not at version {version} yet: a "
                    "snapshot is made of events that are stored",
                    field="version",
                )

    def get_latest_snapshot(
        self,
        aggregate_type: str,
        aggregate_id: str,
        *,
        state_schema: int = 1,
        work: UnitOfWork | None = None,
    ) -> StoredSnapshot | None:
        """Return the latest snapshot of that form, or None.

        Raises:
            SnapshotCorruptError: it is not what was saved.
        """
        aggregate = (aggregate_type, aggregate_id)
        return self._intact_snapshot(aggregate, state_schema, to_version=None, work=work)

    def _last_wanted(
        self,
        aggregate: tuple[str, str],
        *,
        to_version: int | None,
        to_time: datetime | None,
        work: UnitOfWork | None,
    ) -> int | None:
        if to_version is not None and to_version < 0:
            raise ValidationError("to_version is at least 0", field="to_version")
        if to_time is None:
            return to_version
        check_time(to_time, "to_time")
        then = self._version_at(aggregate, to_time, work)
        return then if to_version is None else min(then, to_version)

    def _version_at(
        self, aggregate: tuple[str, str], moment: datetime, work: UnitOfWork | None
    ) -> int:
        with self._reading(work) as unit:
            version = unit.events.version_at(*aggregate, moment)
            if version:
                return version
            parts = EventArchiveRepository(unit.session).list_of_aggregate(*aggregate)
        query = AggregateQuery(aggregate_type=aggregate[0], aggregate_id=aggregate[1])
        for part in reversed(parts):
            if part.archive.recorded_from <= moment:
                pages = archived_pages(query, self._archive, part, after=0)
                events = chain.from_iterable(pages)
                known = [event.version for event in events if event.recorded_at <= moment]
                if known:
                    return max(known)
        return 0

    def _intact_snapshot(
        self,
        aggregate: tuple[str, str],
        state_schema: int,
        *,
        to_version: int | None,
        work: UnitOfWork | None,
    ) -> StoredSnapshot | None:
        with self._reading(work) as unit:
            snapshot = SnapshotRepository(unit.session).get_latest(
                *aggregate, state_schema=state_schema, to_version=to_version
            )
        if snapshot is not None and not snapshot.intact:
            raise SnapshotCorruptError("/".join(aggregate), version=snapshot.version)
        return snapshot

    def _usable_snapshot(
        self,
        aggregate: tuple[str, str],
        state_schema: int,
        *,
        to_version: int | None,
        work: UnitOfWork | None,
    ) -> StoredSnapshot | None:
        try:
            return self._intact_snapshot(aggregate, state_schema, to_version=to_version, work=work)
        except SnapshotCorruptError as error:
            _logger.warning("%s; replaying from the first event instead", error)
            return None

    @contextmanager
    def _writing(self, work: UnitOfWork | None) -> Iterator[UnitOfWork]:
        if work is None:
            with self._database.transaction() as own:
                yield own
        else:
            # A snapshot is made of stored events; those of this unit may still be pending.
            write_pending(work)
            yield work
