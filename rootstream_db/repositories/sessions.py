"""Where login sessions are found."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select, update

from rootstream_db.models.sessions import UserSession
from rootstream_db.repositories.base import Repository


class SessionRepository(Repository[UserSession]):
    """Login sessions, found by the digest of their token."""

    model = UserSession

    def get_by_token_hash(self, token_hash: bytes) -> UserSession | None:
        """Return the session with that digest, whatever its state, or None."""
        return self.session.scalar(select(UserSession).where(UserSession.token_hash == token_hash))

    def list_open(self, user_id: int, *, now: datetime, limit: int = 100) -> Sequence[UserSession]:
        """Return the account's valid sessions, the one seen last first."""
        query = (
            select(UserSession)
            .where(
                UserSession.user_id == user_id,
                UserSession.revoked_at.is_(None),
                UserSession.expires_at > now,
            )
            .order_by(UserSession.last_seen_at.desc(), UserSession.id.desc())
            .limit(limit)
        )
        return self.session.scalars(query).all()

    def revoke_all(self, user_id: int, *, now: datetime) -> Sequence[bytes]:
        """Revoke the account's open sessions and return the digests of their tokens."""
        query = (
            update(UserSession)
            .where(UserSession.user_id == user_id, UserSession.revoked_at.is_(None))
            .values(revoked_at=now)
            .returning(UserSession.token_hash)
        )
        return self.session.scalars(query).all()

    def delete_expired(self, before: datetime, *, limit: int = 1000) -> int:
        """Delete at most ``limit`` sessions that expired before a time; return how many.

        Rows that somebody else holds are left for the next call, so that cleaners do not wait for
        one another nor for a session that is being extended.
        """
        batch = (
            select(UserSession.id)
            .where(UserSession.expires_at < before)
            .order_by(UserSession.expires_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        query = delete(UserSession).where(UserSession.id.in_(batch)).returning(UserSession.id)
        return len(self.session.scalars(query).all())
