"""Where projections keep how far they are, and where their read models are found."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import delete, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from rootstream_db.errors import NotFoundError
from rootstream_db.models import (
    ActivityEntry,
    EventCommit,
    EventLogHead,
    ProjectionCheckpoint,
    StreamStatsDay,
)
from rootstream_db.repositories.events import DEFAULT_LOG

_OURS: Final = ProjectionCheckpoint.log_id == DEFAULT_LOG
_SUMS: Final = (
    "broadcasts",
    "live_seconds",
    "bytes_in",
    "bytes_out",
    "views",
    "watch_seconds",
)


class Standing(NamedTuple):
    """A checkpoint, and since when the first event after it waits."""

    checkpoint: ProjectionCheckpoint
    waiting_since: datetime | None


class CheckpointRepository:
    """The checkpoints of projections. Locking one is what makes its batch the only one."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def ensure(self, names: Collection[str]) -> None:
        """Start a checkpoint at the beginning of the log for each name that has none."""
        for name in sorted(names):
            start = select(literal(name), EventLogHead.log_id, EventLogHead.epoch).where(
                EventLogHead.log_id == DEFAULT_LOG
            )
            self.session.execute(
                insert(ProjectionCheckpoint)
                .from_select(["name", "log_id", "epoch"], start)
                .on_conflict_do_nothing()
            )

    def lock_free(self, name: str, *, owner: str, now: datetime) -> ProjectionCheckpoint | None:
        """Lock the checkpoint if its lease is free, over or ``owner``'s; None if somebody works."""
        free = or_(
            ProjectionCheckpoint.owner.is_(None),
            ProjectionCheckpoint.owner == owner,
            ProjectionCheckpoint.lease_until <= now,
        )
        found = select(ProjectionCheckpoint).where(ProjectionCheckpoint.name == name, _OURS, free)
        return self.session.scalars(found.with_for_update(skip_locked=True)).first()

    def lock_one(self, name: str) -> ProjectionCheckpoint:
        """Lock the checkpoint, whoever has the lease, after the batch under way.

        Raises:
            NotFoundError: the projection has never run.
        """
        found = select(ProjectionCheckpoint).where(ProjectionCheckpoint.name == name, _OURS)
        checkpoint = self.session.scalars(found.with_for_update()).first()
        if checkpoint is None:
            raise NotFoundError("ProjectionCheckpoint", name)
        return checkpoint

    def save(self, before: ProjectionCheckpoint, changes: Mapping[str, Any]) -> bool:
        """Change a checkpoint, unless it has another owner or position than ``before``.

        Returns:
            Whether it was as before.
        """
        statement = (
            update(ProjectionCheckpoint)
            .where(
                ProjectionCheckpoint.name == before.name,
                _OURS,
                ProjectionCheckpoint.owner.is_not_distinct_from(before.owner),
                ProjectionCheckpoint.last_position == before.last_position,
            )
            .values(**changes, updated_at=func.clock_timestamp())
            .returning(ProjectionCheckpoint.name)
        )
        options = {"synchronize_session": False}
        return self.session.scalar(statement, execution_options=options) is not None

    def release(self, name: str, *, owner: str) -> None:
        """Give the lease back, if it is still ``owner``'s."""
        self.session.execute(
            update(ProjectionCheckpoint)
            .where(ProjectionCheckpoint.name == name, _OURS, ProjectionCheckpoint.owner == owner)
            .values(owner=None, lease_until=None),
            execution_options={"synchronize_session": False},
        )

    def list_standings(self) -> list[Standing]:
        """Return every checkpoint with the time since which its next event waits."""
        # The time of a commit is that of its events, and it stays when they are archived.
        waiting_since = (
            select(EventCommit.recorded_at)
            .where(
                EventCommit.log_id == ProjectionCheckpoint.log_id,
                EventCommit.last_position > ProjectionCheckpoint.last_position,
            )
            .order_by(EventCommit.last_position)
            .limit(1)
            .scalar_subquery()
        )
        rows = self.session.execute(
            select(ProjectionCheckpoint, waiting_since)
            .where(_OURS)
            .order_by(ProjectionCheckpoint.name)
        )
        return [Standing(*row) for row in rows]


class StreamStatsRepository:
    """Statistics of streams by day."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def add_all(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add figures to those of their days; of peaks the higher one counts."""
        if not rows:
            return
        statement = insert(StreamStatsDay).values(list(rows))
        given, stored = statement.excluded, StreamStatsDay.__table__.c
        changes = {name: stored[name] + given[name] for name in _SUMS}
        changes["peak_viewers"] = func.greatest(stored.peak_viewers, given.peak_viewers)
        self.session.execute(
            statement.on_conflict_do_update(index_elements=["stream_id", "day"], set_=changes)
        )

    def list_days(self, stream_id: int, *, since: date, until: date) -> Sequence[StreamStatsDay]:
        """Return the days of a stream from ``since`` up to, not including, ``until``."""
        return self.session.scalars(
            select(StreamStatsDay)
            .where(
                StreamStatsDay.stream_id == stream_id,
                StreamStatsDay.day >= since,
                StreamStatsDay.day < until,
            )
            .order_by(StreamStatsDay.day)
        ).all()

    def clear(self) -> None:
        """Delete all statistics."""
        self.session.execute(delete(StreamStatsDay))


class ActivityRepository:
    """What users did, newest first."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def add_all(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add entries."""
        if rows:
            self.session.execute(insert(ActivityEntry).values(list(rows)))

    def list_for_user(
        self, user_id: int, *, before_position: int | None, limit: int
    ) -> Sequence[ActivityEntry]:
        """Return a user's latest entries, or those before a position."""
        found = select(ActivityEntry).where(ActivityEntry.user_id == user_id)
        if before_position is not None:
            found = found.where(ActivityEntry.position < before_position)
        return self.session.scalars(
            found.order_by(ActivityEntry.position.desc()).limit(limit)
        ).all()

    def delete_of_users(self, user_ids: Collection[int]) -> None:
        """Delete everything about some users."""
        if user_ids:
            self.session.execute(
                delete(ActivityEntry).where(ActivityEntry.user_id.in_(user_ids)),
                execution_options={"synchronize_session": False},
            )

    def clear(self) -> None:
        """Delete all entries."""
        self.session.execute(delete(ActivityEntry))
