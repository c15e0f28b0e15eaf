"""What proves that the event log is whole: its hashes, made anew from the rows as they stand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from rootstream_db.errors import NotFoundError
from rootstream_db.models.event_archive import EventArchive
from rootstream_db.models.events import EventCommit, EventLog, EventLogHead
from rootstream_db.repositories.events import DEFAULT_LOG, LogHead

GENESIS: Final = bytes(32)
"""The chain before the first commit."""


class ProvenRow(NamedTuple):
    """A row of the log; ``holds`` tells whether its hash is that of what it says."""

    position: int
    row_hash: bytes
    recorded_at: datetime
    holds: bool


class Link(NamedTuple):
    """A row of the chain; its time is that of the events it stands for."""

    last_position: int
    events: int
    chain: bytes
    recorded_at: datetime


class LogEnd(NamedTuple):
    """The head of the log and, seen at the same instant, the first rows that ought not to be.

    ``beyond`` is an event and ``commit_beyond`` a commit beyond the head, ``covered`` is an event
    that is archived as well.
    """

    head: LogHead
    beyond: int | None
    commit_beyond: int | None
    covered: int | None


_LOG: Final = EventLog.__table__.c
_COMMIT: Final = EventCommit.__table__.c

# In the order of the parameters of the function event_row_hash.
HASHED: Final = (
    _LOG.log_id,
    _LOG.position,
    _LOG.event_id,
    _LOG.aggregate_type,
    _LOG.aggregate_id,
    _LOG.version,
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
"""Columns of the log that the hash of a row is made of."""

_ROWS: Final = select(
    _LOG.position,
    _LOG.row_hash,
    _LOG.recorded_at,
    _LOG.row_hash == func.event_row_hash(*HASHED),
).where(_LOG.log_id == DEFAULT_LOG)

_LINKS: Final = select(
    _COMMIT.last_position, _COMMIT.events, _COMMIT.chain, _COMMIT.recorded_at
).where(_COMMIT.log_id == DEFAULT_LOG)


class EventProofRepository:
    """Reads the log the way somebody does who does not trust it."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def get_end(self) -> LogEnd:
        """Return the head, and the first rows of any log that it does not cover."""
        head = EventLogHead.__table__.c
        events, links = (
            select(func.min(table.c[name]))
            .where(
                or_(
                    and_(table.c.log_id == head.log_id, table.c[name] > head.last_position),
                    table.c.log_id < head.log_id,
                    table.c.log_id > head.log_id,
                )
            )
            .correlate(EventLogHead.__table__)
            .scalar_subquery()
            for table, name in (
                (EventLog.__table__, "position"),
                (EventCommit.__table__, "last_position"),
            )
        )
        archived = select(func.max(EventArchive.last_position)).where(
            EventArchive.log_id == DEFAULT_LOG
        )
        covered = select(func.min(_LOG.position)).where(
            _LOG.log_id == DEFAULT_LOG, _LOG.position <= archived.scalar_subquery()
        )
        row = self.session.execute(
            select(
                head.log_id,
                head.epoch,
                head.last_position,
                head.chain,
                events,
                links,
                covered.scalar_subquery(),
            ).where(head.log_id == DEFAULT_LOG)
        ).first()
        if row is None:
            raise NotFoundError("event log", DEFAULT_LOG)
        return LogEnd(LogHead(*row[:4]), *row[4:])

    def get_start(self, position: int) -> tuple[int, bytes]:
        """Return the last link at or before a position: where it ends, and the chain there."""
        row = self.session.execute(
            select(_COMMIT.last_position, _COMMIT.chain)
            .where(_COMMIT.log_id == DEFAULT_LOG, _COMMIT.last_position <= position)
            .order_by(_COMMIT.last_position.desc())
            .limit(1)
        ).first()
        return (0, GENESIS) if row is None else (row[0], row[1])

    def list_rows(
        self, *, after_position: int, to_position: int, limit: int
    ) -> Sequence[ProvenRow]:
        """Return the rows after a position, each held against its own hash."""
        statement = _ROWS.where(_LOG.position > after_position, _LOG.position <= to_position)
        rows = self.session.execute(statement.order_by(_LOG.position).limit(limit))
        return [ProvenRow(*row) for row in rows]

    def list_links(self, *, after_position: int, to_position: int, limit: int) -> Sequence[Link]:
        """Return the links of the chain after a position."""
        statement = _LINKS.where(
            _COMMIT.last_position > after_position, _COMMIT.last_position <= to_position
        )
        rows = self.session.execute(statement.order_by(_COMMIT.last_position).limit(limit))
        return [Link(*row) for row in rows]
