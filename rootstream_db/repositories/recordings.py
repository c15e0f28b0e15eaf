"""Where recordings are found: the rows of the files that broadcasts left behind."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from rootstream_db.models import Recording, RecordingStatus
from rootstream_db.repositories.base import Repository

_DESCRIBED = (
    "stream_id",
    "stream_session_id",
    "file_path",
    "status",
    "size_bytes",
    "sha256",
    "duration_seconds",
    "container",
    "video_codec",
    "audio_codec",
    "width",
    "height",
    "expires_at",
)


class RecordingRepository(Repository[Recording]):
    """Recordings, one row a file."""

    model = Recording

    def add_once(self, recording: Recording) -> Recording | None:
        """Store the row unless its file has one; return it as stored, or None if there was one."""
        columns = {name: getattr(recording, name) for name in _DESCRIBED}
        query = insert(Recording).values(columns).on_conflict_do_nothing().returning(Recording)
        return self.session.scalar(query)

    def get_by_path(self, file_path: str) -> Recording | None:
        """Return the recording of that file, locked until the transaction ends, or None."""
        query = select(Recording).where(Recording.file_path == file_path).with_for_update()
        return self.session.scalar(query.execution_options(populate_existing=True))

    def list_by_stream(
        self, stream_id: int, *, before: datetime | None = None, limit: int = 100
    ) -> Sequence[Recording]:
        """Return the stream's recordings that were added before a moment, latest first."""
        query = select(Recording).where(Recording.stream_id == stream_id)
        if before is not None:
            query = query.where(Recording.created_at < before)
        latest_first = query.order_by(Recording.created_at.desc(), Recording.id.desc())
        return self.session.scalars(latest_first.limit(limit)).all()

    def list_known_paths(self, file_paths: Collection[str]) -> set[str]:
        """Return those of the files that have a row, whatever became of them since."""
        query = select(Recording.file_path).where(Recording.file_path.in_(file_paths))
        return set(self.session.scalars(query))

    def list_by_session(self, stream_session_id: int) -> Sequence[Recording]:
        """Return the recordings of one broadcast, oldest first."""
        query = select(Recording).where(Recording.stream_session_id == stream_session_id)
        return self.session.scalars(query.order_by(Recording.id)).all()

    def lock_expired(self, now: datetime, *, limit: int) -> Sequence[Recording]:
        """Lock and return recordings whose time is up; rows locked by others are left out."""
        query = (
            select(Recording)
            .where(Recording.expires_at <= now, Recording.status != RecordingStatus.DELETED)
            .order_by(Recording.expires_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        return self.session.scalars(query).all()
