"""Where login sessions are found, opened, touched and ended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, delete, func, or_, select, update

from rootstream_db.models.sessions import AuthState, RevokeReason, UserSession
from rootstream_db.models.users import User
from rootstream_db.repositories import by_key
from rootstream_db.repositories.base import Repository
from rootstream_db.repositories.session_rows import (
    FIND_SQL,
    OPEN_SQL,
    TOUCH_SQL,
    EndedSession,
    FoundSession,
    NewSession,
    OpenedSession,
    found_session,
)
from rootstream_db.security.assurance import AssuranceLevel

_ENDED: Final = (UserSession.id, UserSession.user_id, UserSession.token_hash)
_UNSYNCHRONIZED: Final = {"synchronize_session": False}


class SessionRepository(Repository[UserSession]):
    """Login sessions, found by the digest of their token.

    Statements that run at every request go to the driver as they are; the ORM would cost more than
    PostgreSQL does.
    """

    model = UserSession

    def get_by_token(self, token_hash: bytes) -> UserSession | None:
        """Return the session whose token has that digest, whatever its state, or None."""
        return self.session.scalar(select(UserSession).where(UserSession.token_hash == token_hash))

    def find(self, token_hash: bytes) -> FoundSession | None:
        """Return all that decides whether the session with that digest holds, in one look-up."""
        return found_session(by_key.fetch_one(self.session, FIND_SQL, (token_hash,)))

    def open(self, new: NewSession) -> OpenedSession:
        """Open a session if the account still is what the caller saw; end those beyond the limit.

        The account stays locked until the unit ends, so that what ends all its sessions comes
        before or after this one and not in between.
        """
        values = by_key.fetch_one(self.session, OPEN_SQL, new.parameters())
        assert values is not None  # noqa: S101 - the function returns a row whatever happens
        return OpenedSession._make(values)

    def adopt(self, new: NewSession, opened: OpenedSession) -> UserSession:
        """Return the session that ``open`` opened as a row of this unit."""
        return by_key.adopt(
            self.session,
            UserSession,
            {
                "id": opened.session_id,
                "generation": opened.generation,
                **new.columns(),
            },
        )

    def touch(
        self,
        session_id: int,
        *,
        now: datetime,
        interval: timedelta,
        idle: timedelta,
        ip_address: str | None = None,
    ) -> datetime | None:
        """Record that the session was used, if that was not done within ``interval``.

        Returns:
            Until when it may now be idle; None when nothing was written.
        """
        values = by_key.fetch_one(
            self.session, TOUCH_SQL, (session_id, now, interval, idle, ip_address)
        )
        until: datetime | None = None if values is None else values[0]
        return until

    def list_open(self, user_id: int, *, now: datetime, limit: int = 100) -> Sequence[UserSession]:
        """Return the account's valid sessions, the one seen last first."""
        query = (
            select(UserSession)
            .join(User, User.id == UserSession.user_id)
            .where(
                UserSession.user_id == user_id,
                UserSession.revoked_at.is_(None),
                UserSession.expires_at > now,
                UserSession.idle_expires_at > now,
                UserSession.auth_epoch == User.auth_epoch,
                UserSession.generation == select(AuthState.generation).scalar_subquery(),
                User.is_active,
            )
            .order_by(UserSession.last_seen_at.desc(), UserSession.id.desc())
            .limit(limit)
            # Touches do not pass through the ORM.
            .execution_options(populate_existing=True)
        )
        return self.session.scalars(query).all()

    def count_open(self, *, now: datetime) -> int:
        """Return how many sessions of all accounts were neither revoked nor ran out."""
        query = select(func.count()).where(
            UserSession.revoked_at.is_(None),
            UserSession.expires_at > now,
            UserSession.idle_expires_at > now,
        )
        return self.session.scalar(query) or 0

    def revoke(
        self, session_id: int, *, now: datetime, reason: RevokeReason, user_id: int | None = None
    ) -> Sequence[EndedSession]:
        """Revoke one open session, only if it is that account's when one is given."""
        conditions = [UserSession.id == session_id]
        if user_id is not None:
            conditions.append(UserSession.user_id == user_id)
        return self._revoke(conditions, now=now, reason=reason)

    def revoke_all(
        self,
        user_id: int,
        *,
        now: datetime,
        reason: RevokeReason,
        except_session: int | None = None,
    ) -> Sequence[EndedSession]:
        """Revoke the account's open sessions, all or all but one."""
        conditions = [UserSession.user_id == user_id]
        if except_session is not None:
            conditions.append(UserSession.id != except_session)
        return self._revoke(conditions, now=now, reason=reason)

    def revoke_family(
        self, user_id: int, family: int, *, now: datetime, reason: RevokeReason
    ) -> Sequence[EndedSession]:
        """Revoke what is open of a chain of rotations."""
        of_family = or_(UserSession.id == family, UserSession.family_id == family)
        return self._revoke([UserSession.user_id == user_id, of_family], now=now, reason=reason)

    def suspend(self, session_id: int) -> bytes | None:
        """Take all assurance from an open session; return the digest of its token."""
        query = (
            update(UserSession)
            .where(
                UserSession.id == session_id,
                UserSession.revoked_at.is_(None),
                UserSession.level > AssuranceLevel.NONE,
            )
            .values(level=AssuranceLevel.NONE)
            .returning(UserSession.token_hash)
        )
        return self.session.scalar(query, execution_options=_UNSYNCHRONIZED)

    def carry_over(self, session_id: int, *, user_id: int, auth_epoch: int) -> bool:
        """Let one session that is open in the epoch before go on in a new one of its account."""
        query = (
            update(UserSession)
            .where(
                UserSession.id == session_id,
                UserSession.user_id == user_id,
                UserSession.auth_epoch == auth_epoch - 1,
                UserSession.revoked_at.is_(None),
            )
            .values(auth_epoch=auth_epoch)
            .returning(UserSession.id)
        )
        return self.session.scalar(query, execution_options=_UNSYNCHRONIZED) is not None

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

    def _revoke(
        self, conditions: Sequence[ColumnElement[bool]], *, now: datetime, reason: RevokeReason
    ) -> Sequence[EndedSession]:
        query = (
            update(UserSession)
            .where(UserSession.revoked_at.is_(None), *conditions)
            .values(revoked_at=now, revoke_reason=reason)
            .returning(*_ENDED)
        )
        rows: Any = self.session.execute(query, execution_options=_UNSYNCHRONIZED)
        return [EndedSession._make(row) for row in rows]


class AuthStateRepository(Repository[AuthState]):
    """What holds for all sessions."""

    model = AuthState

    def restored_at(self) -> datetime | None:
        """Return when an older database was last put in this one's place, or None."""
        query = select(AuthState.changed_at).where(AuthState.generation > 1)
        return self.session.scalar(query)

    def next_generation(self, *, now: datetime, reason: str) -> int:
        """Begin a new generation of sessions and return its number.

        The number is never one that was used before, even if a restore took the row back to an
        older one: it is at least the time in milliseconds.
        """
        milliseconds = int(now.timestamp() * 1000)
        query = (
            update(AuthState)
            .values(
                generation=func.greatest(AuthState.generation + 1, milliseconds),
                reason=reason,
                changed_at=now,
            )
            .returning(AuthState.generation)
        )
        generation: int = self.session.scalars(query, execution_options=_UNSYNCHRONIZED).one()
        return generation
