"""The event log and its snapshots: append, read in order, never change."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    Text,
    Uuid,
    any_,
    bindparam,
    cast,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.orm import Session

from rootstream_db.models.event_archive import EventArchivedId
from rootstream_db.models.events import EventLog, EventLogHead
from rootstream_db.repositories.event_batches import EventBatch, Placed, append
from rootstream_db.repositories.recorded import RecordedEvent, list_recorded

__all__ = [
    "DEFAULT_LOG",
    "Cursor",
    "EventRepository",
    "LogHead",
    "RecordedEvent",
]

DEFAULT_LOG: Final = 0
"""The log that migration 001 starts; its head row holds the dense order."""


class Cursor(NamedTuple):
    """A place in the log that outlives a restore: ``epoch`` tells which history it belongs to."""

    epoch: uuid.UUID
    position: int


class LogHead(NamedTuple):
    """The end of the log: the last position, and the chain over everything up to it."""

    log_id: int
    epoch: uuid.UUID
    last_position: int
    chain: bytes


# Columns, not attributes: the ORM's own way of making rows costs half as much again.
_LOG: Final = EventLog.__table__.c

# In the order of RecordedEvent's fields.
_RECORDED: Final = (
    _LOG.position,
    _LOG.version,
    _LOG.event_id,
    _LOG.aggregate_type,
    _LOG.aggregate_id,
    _LOG.event_type,
    _LOG.schema_version,
    _LOG.data,
    _LOG.metadata,
    _LOG.user_id,
    _LOG.subject_id,
    _LOG.correlation_id,
    _LOG.causation_id,
    _LOG.occurred_at,
    _LOG.recorded_at,
)

_CONDITIONS: Final[dict[str, ColumnElement[bool]]] = {
    "log_id": _LOG.log_id == bindparam("log_id"),
    "aggregate_type": _LOG.aggregate_type == bindparam("aggregate_type"),
    "aggregate_id": _LOG.aggregate_id == bindparam("aggregate_id"),
    "user_id": _LOG.user_id == bindparam("user_id"),
    "subject_id": _LOG.subject_id == bindparam("subject_id"),
    "since": _LOG.recorded_at >= bindparam("since"),
    "until": _LOG.recorded_at < bindparam("until"),
    "types": _LOG.event_type == any_(bindparam("types", type_=ARRAY(Text))),
}

# In the order of LogHead's fields.
_HEAD: Final = select(
    EventLogHead.log_id, EventLogHead.epoch, EventLogHead.last_position, EventLogHead.chain
).where(EventLogHead.log_id == DEFAULT_LOG)


class EventRepository:
    """Appends to and reads from the log.

    It is no ``Repository``: single events are neither added nor changed nor deleted.
    """

    def __init__(self, session: Session) -> None:
        self.session = session

    def append_batch(self, batch: EventBatch, *, log_id: int = DEFAULT_LOG) -> list[Placed]:
        """Append a batch and tell where it stands, in its order."""
        return append(self.session, batch, log_id=log_id)

    def get_head(self) -> LogHead:
        """Return where the log ends."""
        return LogHead(*self.session.execute(_HEAD).one())

    def begin_epoch(self) -> uuid.UUID:
        """Give the log a new epoch and return it; the database refuses roles without the right."""
        self._maintenance("on")
        statement = update(EventLogHead).where(EventLogHead.log_id == DEFAULT_LOG)
        epoch = self.session.scalars(
            statement.values(epoch=func.gen_random_uuid()).returning(EventLogHead.epoch),
            execution_options={"synchronize_session": False},
        ).one()
        self._maintenance("off")
        return epoch

    def _maintenance(self, value: str) -> None:
        self.session.execute(select(func.set_config("rootstream.maintenance", value, True)))

    def list_stored_ids(self, event_ids: Iterable[uuid.UUID]) -> set[uuid.UUID]:
        """Return which of the ids are in the log, archived or not."""
        # One parameter, however many they are: a statement takes 65,535.
        given = literal(list(event_ids), ARRAY(Uuid))
        live = select(EventLog.event_id).where(EventLog.event_id == any_(given))
        archived = select(EventArchivedId.event_id).where(EventArchivedId.event_id == any_(given))
        return set(self.session.scalars(live.union(archived)))

    def list_of_aggregate(
        self,
        aggregate_type: str,
        aggregate_id: str,
        *,
        after_version: int,
        to_version: int | None,
        limit: int,
    ) -> Sequence[RecordedEvent]:
        """Return the events of one aggregate after a version, in order."""
        return self._list(
            "version",
            limit=limit,
            aggregate_type=aggregate_type,
            aggregate_id=aggregate_id,
            after=after_version,
            to=to_version,
        )

    def version_at(self, aggregate_type: str, aggregate_id: str, moment: datetime) -> int:
        """Return the version an aggregate had at a moment, by the database's clock.

        0: it had none yet, or those it had are archived.
        """
        found = select(func.max(_LOG.version)).where(
            _LOG.aggregate_type == aggregate_type,
            _LOG.aggregate_id == aggregate_id,
            _LOG.recorded_at <= moment,
        )
        return self.session.scalar(found) or 0

    def count_bytes(
        self, aggregate_type: str, aggregate_id: str, *, after_version: int
    ) -> tuple[int, int | None]:
        """Return the length of the data, as JSON, of an aggregate's events after a version.

        The version of the first event that was counted comes with it: those before are archived.
        """
        length = func.sum(func.octet_length(cast(_LOG.data, Text)))
        found = select(length, func.min(_LOG.version)).where(
            _LOG.aggregate_type == aggregate_type,
            _LOG.aggregate_id == aggregate_id,
            _LOG.version > after_version,
        )
        total, first = self.session.execute(found).one()
        return int(total or 0), first

    def list_all(
        self,
        *,
        after_position: int,
        to_position: int | None = None,
        types: Collection[str] | None,
        limit: int,
    ) -> Sequence[RecordedEvent]:
        """Return the events after a position, in the order of the log."""
        return self._list(
            "position",
            limit=limit,
            log_id=DEFAULT_LOG,
            after=after_position,
            to=to_position,
            types=None if types is None else list(types),
        )

    def list_of_user(
        self,
        user_id: int,
        *,
        after_position: int,
        since: datetime | None = None,
        until: datetime | None = None,
        types: Collection[str] | None = None,
        limit: int,
    ) -> Sequence[RecordedEvent]:
        """Return what a user did after a position, in the order of the log."""
        return self._list(
            "position",
            limit=limit,
            log_id=DEFAULT_LOG,
            user_id=user_id,
            after=after_position,
            since=since,
            until=until,
            types=None if types is None else list(types),
        )

    def list_of_subject(
        self, subject_id: uuid.UUID, *, after_position: int, limit: int
    ) -> Sequence[RecordedEvent]:
        """Return what holds personal data of a person, in the order of the log."""
        return self._list(
            "position",
            limit=limit,
            log_id=DEFAULT_LOG,
            subject_id=subject_id,
            after=after_position,
        )

    def _list(self, order: str, *, limit: int, **wanted: object) -> Sequence[RecordedEvent]:
        given = {name: value for name, value in wanted.items() if value is not None}
        statement = _recorded(order, frozenset(given))
        return list_recorded(self.session, statement, {**given, "limit": limit})


@cache
def _recorded(order: str, wanted: frozenset[str]) -> Select[Any]:
    """Return the statement that selects events by those of ``_CONDITIONS``."""
    place = _LOG[order]
    conditions = [
        place > bindparam("after", type_=BigInteger),
        *(_CONDITIONS[name] for name in sorted(wanted - {"after", "to"})),
    ]
    if "to" in wanted:
        conditions.append(place <= bindparam("to", type_=BigInteger))
    limit = bindparam("limit", type_=Integer)
    return select(*_RECORDED).where(*conditions).order_by(place).limit(limit)
