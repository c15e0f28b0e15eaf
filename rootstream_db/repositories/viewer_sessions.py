"""Where viewers' visits are found: one row for each time somebody watched a stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import select, text

from rootstream_db.models import ViewerSession
from rootstream_db.repositories.base import Repository

# A visit belongs to the last broadcast that had begun when it ended. Users may have been deleted
# since the visit; the visit stays, without them.
_ADD_MANY: Final = text("""
INSERT INTO viewer_sessions (started_at, ended_at, stream_id, stream_session_id, user_id,
                             viewer_hash, watch_seconds, bytes_out)
SELECT d.started_at, d.ended_at, d.stream_id,
       (SELECT s.id FROM stream_sessions AS s
        WHERE s.stream_id = d.stream_id AND s.started_at <= d.ended_at
        ORDER BY s.started_at DESC, s.id DESC LIMIT 1),
       (SELECT u.id FROM users AS u WHERE u.id = d.user_id FOR KEY SHARE),
       d.viewer_hash, d.watch_seconds, d.bytes_out
FROM unnest(CAST(:started_at AS timestamptz[]), CAST(:ended_at AS timestamptz[]),
            CAST(:stream_id AS bigint[]), CAST(:user_id AS bigint[]),
            CAST(:viewer_hash AS bytea[]), CAST(:watch_seconds AS bigint[]),
            CAST(:bytes_out AS bigint[]))
     AS d (started_at, ended_at, stream_id, user_id, viewer_hash, watch_seconds, bytes_out)
""")


class ViewerSessionRepository(Repository[ViewerSession]):
    """Visits that have ended."""

    model = ViewerSession

    def add_many(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Insert visits given as columns of equal length; their streams must exist."""
        self.session.execute(_ADD_MANY, columns)

    def list_by_stream(
        self, stream_id: int, *, before: datetime | None = None, limit: int = 100
    ) -> Sequence[ViewerSession]:
        """Return the visits to a stream that began before a moment, latest first."""
        query = select(ViewerSession).where(ViewerSession.stream_id == stream_id)
        return self._latest(query, before, limit)

    def list_by_user(
        self, user_id: int, *, before: datetime | None = None, limit: int = 100
    ) -> Sequence[ViewerSession]:
        """Return the visits of an account that began before a moment, latest first."""
        query = select(ViewerSession).where(ViewerSession.user_id == user_id)
        return self._latest(query, before, limit)

    def _latest(self, query: Any, before: datetime | None, limit: int) -> Sequence[ViewerSession]:
        if before is not None:
            query = query.where(ViewerSession.started_at < before)
        ordered = query.order_by(ViewerSession.started_at.desc(), ViewerSession.id.desc())
        rows: Sequence[ViewerSession] = self.session.scalars(ordered.limit(limit)).all()
        return rows
