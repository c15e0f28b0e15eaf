"""Where stream sessions are found: one row for each time a stream was live."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select

from rootstream_db.errors import NotFoundError
from rootstream_db.models import StreamSession
from rootstream_db.repositories.base import Repository


class StreamSessionRepository(Repository[StreamSession]):
    """Stream sessions, open and ended."""

    model = StreamSession

    def lock_one(self, session_id: int) -> StreamSession:
        """Return the session as it is now, locked until the transaction ends.

        Raises:
            NotFoundError: there is none.
        """
        query = (
            select(StreamSession)
            .where(StreamSession.id == session_id)
            .with_for_update()
            .execution_options(populate_existing=True)
        )
        session = self.session.scalar(query)
        if session is None:
            raise NotFoundError("StreamSession", session_id)
        return session

    def get_open(self, stream_id: int) -> StreamSession | None:
        """Return the stream's open session, or None when it is offline."""
        query = select(StreamSession).where(
            StreamSession.stream_id == stream_id, StreamSession.ended_at.is_(None)
        )
        return self.session.scalar(query)

    def list_by_stream(
        self, stream_id: int, *, before: datetime | None = None, limit: int = 100
    ) -> Sequence[StreamSession]:
        """Return the stream's sessions that started before a moment, latest first."""
        query = select(StreamSession).where(StreamSession.stream_id == stream_id)
        if before is not None:
            query = query.where(StreamSession.started_at < before)
        latest_first = query.order_by(StreamSession.started_at.desc(), StreamSession.id.desc())
        return self.session.scalars(latest_first.limit(limit)).all()

    def get_latest(self, stream_id: int) -> StreamSession | None:
        """Return the stream's latest session, open or ended, or None if it was never live."""
        latest = self.list_by_stream(stream_id, limit=1)
        return latest[0] if latest else None
