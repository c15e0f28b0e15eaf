"""The archive of the event log, as the database knows it: which events are in which file."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Select,
    Text,
    and_,
    bindparam,
    cast,
    extract,
    func,
    insert,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from rootstream_db.models.event_archive import (
    EventArchive,
    EventArchiveAggregate,
    EventArchivedId,
    EventArchiveSubject,
    EventArchiveUser,
)
from rootstream_db.models.events import EventCommit, EventLog
from rootstream_db.repositories.event_proofs import HASHED
from rootstream_db.repositories.events import DEFAULT_LOG


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """One file of archived events.

    Attributes:
        log_id: the log they belong to.
        first_position: the first of them.
        last_position: the last of them, which ends a commit.
        file_name: the file, inside the archive directory.
        size_bytes: its length.
        sha256: the digest of all of it.
        index_sha256: the digest of its index, which holds those of its blocks.
        chain: the hash chain of the log up to the last event.
        epoch: the epoch of the log when they were archived.
        recorded_from: the earliest time at which one of them was recorded.
        recorded_until: the latest.
        created_at: when they were archived.
    """

    log_id: int
    first_position: int
    last_position: int
    file_name: str
    size_bytes: int
    sha256: bytes
    index_sha256: bytes
    chain: bytes
    epoch: uuid.UUID
    recorded_from: datetime
    recorded_until: datetime
    created_at: datetime

    @property
    def events(self) -> int:
        """How many events are in it."""
        return self.last_position - self.first_position + 1


class ArchivePart(NamedTuple):
    """A file, or some blocks of it, that holds the next events a reader wants.

    ``until`` is how far the reader is once it has read the part: a position, or the version of an
    aggregate. Of the events after ``after_position`` none is in another part before it.
    """

    archive: Archive
    until: int
    after_position: int = 0
    blocks: frozenset[int] | None = None


class StoredLine(NamedTuple):
    """An event as the text that its hash is made of."""

    position: int
    line: str
    row_hash: bytes


_LOG: Final = EventLog.__table__.c
_ARCHIVE: Final = EventArchive.__table__.c
_COMMIT: Final = EventCommit.__table__.c

_FACTS: Final = tuple(_ARCHIVE[name] for name in Archive.__dataclass_fields__)


def _microseconds(moment: ColumnElement[datetime]) -> ColumnElement[int]:
    return cast(extract("epoch", moment) * literal_column("1000000"), BigInteger)


# What the function event_row_hash makes its digest of. Each line is held against the stored digest
# before it goes into a file, so that a difference between the two could lose nothing.
_LINE: Final = cast(
    # The last two are moments, which the hash has as microseconds.
    func.json_build_array(*HASHED[:-2], *map(_microseconds, HASHED[-2:])),
    Text,
)

# One statement: what goes out of the log is what is entered under the file.
_MOVE: Final = text("""
    WITH gone AS (
        DELETE FROM event_log
        WHERE log_id = :log_id AND position BETWEEN :first_position AND :last_position
        RETURNING
            position, aggregate_type, aggregate_id, version, user_id, subject_id, row_hash,
            width_bucket(position, CAST(:starts AS bigint[])) - 1 AS block
    ), of_aggregates AS (
        INSERT INTO event_archive_aggregate (
            aggregate_type, aggregate_id, last_version, log_id, last_position, blocks
        )
        SELECT
            aggregate_type, aggregate_id, max(version), CAST(:log_id AS smallint),
            CAST(:last_position AS bigint), array_agg(DISTINCT block)
        FROM gone GROUP BY aggregate_type, aggregate_id
    ), of_users AS (
        INSERT INTO event_archive_user (user_id, log_id, last_position, blocks)
        SELECT
            user_id, CAST(:log_id AS smallint), CAST(:last_position AS bigint),
            array_agg(DISTINCT block)
        FROM gone WHERE user_id IS NOT NULL GROUP BY user_id
    ), of_subjects AS (
        INSERT INTO event_archive_subject (subject_id, log_id, last_position, blocks)
        SELECT
            subject_id, CAST(:log_id AS smallint), CAST(:last_position AS bigint),
            array_agg(DISTINCT block)
        FROM gone WHERE subject_id IS NOT NULL GROUP BY subject_id
    )
    SELECT count(*), sha256(coalesce(string_agg(row_hash, ''::bytea ORDER BY position), ''))
    FROM gone
""").bindparams(bindparam("starts", type_=ARRAY(BigInteger)))


class EventArchiveRepository:
    """Knows which file holds an event, and moves events from the log into the archive."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def get_end(self) -> int:
        """Return the last archived position; 0: nothing is archived."""
        end = select(func.max(_ARCHIVE.last_position)).where(_ARCHIVE.log_id == DEFAULT_LOG)
        return self.session.scalar(end) or 0

    def list_all(self) -> list[Archive]:
        """Return the whole manifest, in order."""
        rows = self.session.execute(_archives().order_by(_ARCHIVE.last_position))
        return [_archive(row) for row in rows]

    def find_after(self, position: int) -> ArchivePart | None:
        """Return the file that holds the first archived event after a position."""
        statement = _archives().where(_ARCHIVE.last_position > position)
        row = self.session.execute(statement.order_by(_ARCHIVE.last_position).limit(1)).first()
        if row is None:
            return None
        archive = _archive(row)
        return ArchivePart(archive, archive.last_position, position)

    def find_of_aggregate(
        self, aggregate_type: str, aggregate_id: str, *, after_version: int
    ) -> ArchivePart | None:
        """Return the blocks that hold an aggregate's first archived events after a version."""
        parts = self.list_of_aggregate(
            aggregate_type, aggregate_id, after_version=after_version, limit=1
        )
        return parts[0] if parts else None

    def list_of_aggregate(
        self,
        aggregate_type: str,
        aggregate_id: str,
        *,
        after_version: int = 0,
        limit: int | None = None,
    ) -> list[ArchivePart]:
        """Return the blocks that hold an aggregate's archived events, in order."""
        part = EventArchiveAggregate.__table__.c
        statement = _archives(part.last_version, part.blocks).join_from(
            EventArchiveAggregate, EventArchive, _same_file(part)
        )
        rows = self.session.execute(
            statement.where(
                part.aggregate_type == aggregate_type,
                part.aggregate_id == aggregate_id,
                part.last_version > after_version,
            )
            .order_by(part.last_version)
            .limit(limit)
        )
        return [
            ArchivePart(_archive(row), row.last_version, blocks=frozenset(row.blocks))
            for row in rows
        ]

    def find_of_user(
        self,
        user_id: int,
        *,
        after_position: int,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> ArchivePart | None:
        """Return the blocks that hold a user's first archived events after a position."""
        conditions = [EventArchiveUser.user_id == user_id]
        if since is not None:
            conditions.append(_ARCHIVE.recorded_until >= since)
        if until is not None:
            conditions.append(_ARCHIVE.recorded_from < until)
        return self._find_part(EventArchiveUser, after_position, *conditions)

    def find_of_subject(self, subject_id: uuid.UUID, *, after_position: int) -> ArchivePart | None:
        """Return the blocks that hold the first archived events about a person after a position."""
        about = EventArchiveSubject.subject_id == subject_id
        return self._find_part(EventArchiveSubject, after_position, about)

    def get_commit_before(self, moment: datetime, *, after_position: int) -> int | None:
        """Return where the commits end that come before the first one of a moment or later.

        None: there is no such commit. It looks at the commits one by one, from ``after_position``.
        """
        first_late = (
            select(_COMMIT.last_position - _COMMIT.events)
            .where(
                _COMMIT.log_id == DEFAULT_LOG,
                _COMMIT.last_position > after_position,
                _COMMIT.recorded_at >= moment,
            )
            .order_by(_COMMIT.last_position)
            .limit(1)
        )
        return self.session.scalar(first_late)

    def list_lines(
        self, *, after_position: int, to_position: int, limit: int
    ) -> Sequence[StoredLine]:
        """Return events as text, with their hashes."""
        rows = self.session.execute(
            select(_LOG.position, _LINE, _LOG.row_hash)
            .where(
                _LOG.log_id == DEFAULT_LOG,
                _LOG.position > after_position,
                _LOG.position <= to_position,
            )
            .order_by(_LOG.position)
            .limit(limit)
        )
        return [StoredLine(*row) for row in rows]

    def keep_ids(self, *, first_position: int, last_position: int) -> None:
        """Remember the ids of events that are to be archived; in a transaction of its own."""
        self.begin_maintenance()
        content = func.event_content_hash(
            _LOG.aggregate_type,
            _LOG.aggregate_id,
            _LOG.event_type,
            _LOG.schema_version,
            _LOG.data,
            _LOG.metadata,
            _LOG.user_id,
            _LOG.subject_id,
            _LOG.causation_id,
        )
        statement = upsert(EventArchivedId).from_select(
            ["event_id", "position", "version", "recorded_at", "content_hash"],
            select(_LOG.event_id, _LOG.position, _LOG.version, _LOG.recorded_at, content).where(
                _LOG.log_id == DEFAULT_LOG, _LOG.position.between(first_position, last_position)
            ),
        )
        # A run that was cut short may have been here before.
        self.session.execute(
            statement.on_conflict_do_nothing(index_elements=["event_id"]),
            execution_options={"synchronize_session": False},
        )

    def move(self, archive: Archive, *, block_starts: Sequence[int]) -> tuple[int, bytes]:
        """Enter a file in the manifest and delete its events from the log.

        Args:
            archive: the file.
            block_starts: the first position of each of its blocks.

        Returns:
            How many events were deleted, and the digest of their hashes in order: whoever calls
            this has to undo it if they are not those of the file.
        """
        self.begin_maintenance()
        facts = {name: getattr(archive, name) for name in Archive.__dataclass_fields__}
        self.session.execute(insert(EventArchive).values(facts))
        parameters = {
            "log_id": archive.log_id,
            "first_position": archive.first_position,
            "last_position": archive.last_position,
            "starts": list(block_starts),
        }
        count, digest = self.session.execute(_MOVE, parameters).one()
        return count, digest

    def _find_part(
        self,
        model: type[EventArchiveUser | EventArchiveSubject],
        after_position: int,
        *conditions: ColumnElement[bool],
    ) -> ArchivePart | None:
        part = model.__table__.c
        row = self.session.execute(
            _archives(part.blocks)
            .join_from(model, EventArchive, _same_file(part))
            .where(*conditions, part.log_id == DEFAULT_LOG, part.last_position > after_position)
            .order_by(part.last_position)
            .limit(1)
        ).first()
        if row is None:
            return None
        archive = _archive(row)
        return ArchivePart(archive, archive.last_position, after_position, frozenset(row.blocks))

    def begin_maintenance(self) -> None:
        """Let this transaction change the log, and take its time; the role needs the right."""
        for name, value in (("rootstream.maintenance", "on"), ("statement_timeout", "0")):
            self.session.execute(select(func.set_config(name, value, True)))


def _archives(*more: ColumnElement[Any]) -> Select[Any]:
    return select(*_FACTS, *more).where(_ARCHIVE.log_id == DEFAULT_LOG)


def _same_file(part: Any) -> ColumnElement[bool]:
    return and_(part.log_id == _ARCHIVE.log_id, part.last_position == _ARCHIVE.last_position)


def _archive(row: Sequence[Any]) -> Archive:
    names = Archive.__dataclass_fields__
    return Archive(**dict(zip(names, row[: len(names)], strict=True)))
