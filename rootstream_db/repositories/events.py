"""The event log and its snapshots: append, read in order, never change."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    SmallInteger,
    Text,
    Uuid,
    any_,
    bindparam,
    cast,
    delete,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import Session

from rootstream_db.models.event_archive import EventArchivedId
from rootstream_db.models.events import EventLog, EventLogHead, EventStream, Snapshot
from rootstream_db.repositories.event_batches import EventBatch, Placed, append
from rootstream_db.repositories.recorded import RecordedEvent, list_recorded

__all__ = [
    "DEFAULT_LOG",
    "KEPT_SNAPSHOTS",
    "Cursor",
    "EventRepository",
    "LogHead",
    "RecordedEvent",
    "SnapshotRepository",
    "StoredSnapshot",
]

DEFAULT_LOG: Final = 0
"""The log that migration 001 starts; its head row holds the dense order."""

KEPT_SNAPSHOTS: Final = 2
"""Snapshots kept of an aggregate: the latest, and one to fall back on."""


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


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """The state of an aggregate at a version; ``intact`` if nobody changed it since."""

    aggregate_type: str
    aggregate_id: str
    version: int
    state: dict[str, Any] = field(repr=False)
    state_schema: int
    created_at: datetime
    intact: bool


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

# In the order of StoredSnapshot's fields; its last field is computed.
_SNAPSHOT: Final = (
    Snapshot.aggregate_type,
    Snapshot.aggregate_id,
    Snapshot.version,
    Snapshot.state,
    Snapshot.state_schema,
    Snapshot.created_at,
)


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


class SnapshotRepository:
    """Keeps the latest snapshots of each aggregate."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def save(
        self,
        aggregate_type: str,
        aggregate_id: str,
        *,
        version: int,
        state: bytes,
        state_schema: int,
    ) -> bool:
        """Store a snapshot and drop old ones; False if the aggregate is not that far yet."""
        given = (
            select(
                EventStream.aggregate_type,
                EventStream.aggregate_id,
                cast(version, BigInteger).label("version"),
                cast(literal(state.decode(), Text), JSONB).label("state"),
                cast(state_schema, SmallInteger).label("state_schema"),
            )
            .where(
                EventStream.aggregate_type == aggregate_type,
                EventStream.aggregate_id == aggregate_id,
                EventStream.version >= version,
            )
            .subquery()
        )
        columns = {column.name: column for column in given.c} | {"checksum": _checksum(given.c)}
        statement = insert(Snapshot).from_select(list(columns), select(*columns.values()))
        replacing = statement.on_conflict_do_update(
            index_elements=list(columns)[:3],
            set_={name: statement.excluded[name] for name in list(columns)[3:]},
        )
        saved = self.session.scalar(replacing.returning(Snapshot.version)) is not None
        if saved:
            self._forget_old(aggregate_type, aggregate_id)
        return saved

    def get_latest(
        self,
        aggregate_type: str,
        aggregate_id: str,
        *,
        state_schema: int,
        to_version: int | None = None,
    ) -> StoredSnapshot | None:
        """Return the latest snapshot of that form up to a version, intact or not."""
        conditions = [
            Snapshot.aggregate_type == aggregate_type,
            Snapshot.aggregate_id == aggregate_id,
            Snapshot.state_schema == state_schema,
        ]
        if to_version is not None:
            conditions.append(Snapshot.version <= to_version)
        row = self.session.execute(
            select(*_SNAPSHOT, Snapshot.checksum == _checksum(Snapshot.__table__.c))
            .where(*conditions)
            .order_by(Snapshot.version.desc())
            .limit(1)
        ).first()
        return None if row is None else StoredSnapshot(*row)

    def _forget_old(self, aggregate_type: str, aggregate_id: str) -> None:
        of_aggregate = (
            Snapshot.aggregate_type == aggregate_type,
            Snapshot.aggregate_id == aggregate_id,
        )
        oldest_kept = (
            select(Snapshot.version)
            .where(*of_aggregate)
            .order_by(Snapshot.version.desc())
            .offset(KEPT_SNAPSHOTS - 1)
            .limit(1)
            .scalar_subquery()
        )
        self.session.execute(
            delete(Snapshot).where(*of_aggregate, Snapshot.version < oldest_kept),
            execution_options={"synchronize_session": False},
        )


def _checksum(columns: Any) -> ColumnElement[bytes]:
    """Return the digest of a snapshot as it is stored: jsonb has one text for one value."""
    names = ("aggregate_type", "aggregate_id", "version", "state_schema", "state")
    content = func.json_build_array(*(columns[name] for name in names))
    return func.sha256(func.convert_to(cast(content, Text), "UTF8"))
