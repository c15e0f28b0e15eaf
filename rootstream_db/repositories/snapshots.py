"""Where snapshots of aggregates are kept and found."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    SmallInteger,
    Text,
    and_,
    bindparam,
    cast,
    delete,
    func,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import Session

from rootstream_db.models.events import EventStream, Snapshot

KEPT_SNAPSHOTS: Final = 2
"""Snapshots kept of an aggregate: the latest, and one to fall back on."""

MAX_VERSION: Final = 2**63 - 1
"""No version is higher: PostgreSQL keeps them as ``bigint``."""


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """The state of an aggregate at a version.

    Attributes:
        aggregate_version: where the aggregate was when the snapshot was read; None: nowhere.
        intact: whether nobody changed it since it was taken.
    """

    aggregate_type: str
    aggregate_id: str
    version: int
    state: dict[str, Any] = field(repr=False)
    state_schema: int
    created_at: datetime
    aggregate_version: int | None
    intact: bool


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
        wanted = {
            "aggregate_type": aggregate_type,
            "aggregate_id": aggregate_id,
            "state_schema": state_schema,
            "to_version": MAX_VERSION if to_version is None else to_version,
        }
        row = self.session.execute(_latest_snapshot(), wanted).first()
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


@cache
def _latest_snapshot() -> Select[Any]:
    """Return the query for the fields of ``StoredSnapshot``, made once."""
    stored, stream = Snapshot.__table__.c, EventStream.__table__.c
    of_aggregate = (stored.aggregate_type, stored.aggregate_id)
    return (
        select(
            *of_aggregate,
            stored.version,
            stored.state,
            stored.state_schema,
            stored.created_at,
            stream.version,
            stored.checksum == _checksum(stored),
        )
        .join_from(
            Snapshot.__table__,
            EventStream.__table__,
            and_(*(stream[column.name] == column for column in of_aggregate)),
            isouter=True,
        )
        .where(*(column == bindparam(column.name) for column in of_aggregate))
        .where(
            stored.state_schema == bindparam("state_schema"),
            stored.version <= bindparam("to_version"),
        )
        .order_by(stored.version.desc())
        .limit(1)
    )


def _checksum(columns: Any) -> ColumnElement[bytes]:
    """Return the digest of a snapshot as it is stored: jsonb has one text for one value."""
    names = ("aggregate_type", "aggregate_id", "version", "state_schema", "state")
    content = func.json_build_array(*(columns[name] for name in names))
    return func.sha256(func.convert_to(cast(content, Text), "UTF8"))
