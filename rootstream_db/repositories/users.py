"""Where accounts, their one-time tokens and the counts of failed logins are found."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, case, delete, func, null, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from rootstream_db.errors import NotFoundError
from rootstream_db.models.users import LoginThrottle, TokenPurpose, User, UserToken
from rootstream_db.repositories.base import Repository


class UserRepository(Repository[User]):
    """Accounts, found by name or address in any case."""

    model = User

    def get_by_username(self, username: str) -> User | None:
        """Return the account with that username, whatever its case, or None."""
        return self._get_where(func.lower(User.username) == func.lower(username))

    def get_by_email(self, email: str) -> User | None:
        """Return the account with that stored e-mail address, whatever its case, or None."""
        return self._get_where(func.lower(User.email) == func.lower(email))

    def get_by_login(self, login: str) -> User | None:
        """Return the account that logs in by that username or e-mail address, or None."""
        # A username cannot hold an @, so one indexed look-up is enough.
        return self.get_by_email(login) if "@" in login else self.get_by_username(login)

    def get_by_public_id(self, public_id: uuid.UUID) -> User | None:
        """Return the account that is known by that id outside, or None."""
        return self._get_where(User.public_id == public_id)

    def get_subject_id(self, user_id: int) -> uuid.UUID | None:
        """Return the id by which an account's personal data is known, or None."""
        return self.session.scalar(select(User.public_id).where(User.id == user_id))

    def list_newest(self, *, limit: int = 100, before_id: int | None = None) -> Sequence[User]:
        """Return accounts, the newest first; ``before_id`` goes on after an earlier page."""
        query = select(User).order_by(User.id.desc()).limit(limit)
        if before_id is not None:
            query = query.where(User.id < before_id)
        return self.session.scalars(query).all()

    def count(self) -> int:
        """Return how many accounts there are."""
        return self.session.scalar(select(func.count(User.id))) or 0

    def lock(self, user_id: int) -> User:
        """Return the account as it is now and keep others from changing it until the unit ends.

        Whoever changes an account and rows that hang on it (tokens, sessions) locks the account
        first; in that order nobody can deadlock.

        Raises:
            NotFoundError: there is none.
        """
        # NO KEY: rows that refer to the account may still be written by others.
        query = select(User).where(User.id == user_id).with_for_update(key_share=True)
        user = self.session.scalar(query.execution_options(populate_existing=True))
        if user is None:
            raise NotFoundError(User.__name__, user_id)
        return user

    def bump_auth_epoch(self, user_id: int) -> int:
        """Begin a new epoch of the account and return its number; sessions of older ones are dead.

        Only PostgreSQL knows then: cached sessions live on for up to ``sessions.max_stale``. To end
        them at once there is ``SessionManager.revoke_all_for_user``, which calls this.

        Raises:
            NotFoundError: there is no such account.
        """
        account = self.lock(user_id)
        account.auth_epoch += 1
        self.session.flush()
        return account.auth_epoch

    def record_login(
        self, user_id: int, *, verified_hash: str, password_hash: str, now: datetime
    ) -> User | None:
        """Record a login whose password matched ``verified_hash``; None if that is not it any more.

        One statement compares and writes, so a login cannot slip past a password change or a
        deactivation that is committed first.
        """
        query = (
            update(User)
            .where(User.id == user_id, User.password_hash == verified_hash, User.is_active)
            .values(last_login_at=now, password_hash=password_hash)
            .returning(User)
            .execution_options(populate_existing=True)
        )
        return self.session.scalar(query)

    def _get_where(self, condition: ColumnElement[bool]) -> User | None:
        # What an earlier look at the same account left in the session may be out of date.
        query = select(User).where(condition).execution_options(populate_existing=True)
        return self.session.scalar(query)


class UserTokenRepository(Repository[UserToken]):
    """One-time tokens, found by the digest of the secret."""

    model = UserToken

    def get_by_hash(self, token_hash: bytes) -> UserToken | None:
        """Return the token with that digest as it is now, whatever its state, or None."""
        query = select(UserToken).where(UserToken.token_hash == token_hash)
        return self.session.scalar(query.execution_options(populate_existing=True))

    def redeem(self, token_hash: bytes, *, now: datetime) -> UserToken | None:
        """Use the token up and return it; None if it is used, expired or gone.

        One statement compares and writes: of any number of callers one gets the token.
        """
        query = (
            update(UserToken)
            .where(
                UserToken.token_hash == token_hash,
                UserToken.used_at.is_(None),
                UserToken.expires_at > now,
            )
            .values(used_at=now)
            .returning(UserToken)
            .execution_options(populate_existing=True)
        )
        return self.session.scalar(query)

    def void(self, user_id: int, purpose: TokenPurpose | None = None) -> int:
        """Delete the account's unused tokens, of one purpose or all; return how many."""
        conditions = [UserToken.user_id == user_id, UserToken.used_at.is_(None)]
        if purpose is not None:
            conditions.append(UserToken.purpose == purpose)
        return len(
            self.session.scalars(delete(UserToken).where(*conditions).returning(UserToken.id)).all()
        )

    def delete_expired(self, before: datetime, *, limit: int = 1000) -> int:
        """Delete at most ``limit`` tokens that expired before a time; return how many."""
        batch = (
            select(UserToken.id)
            .where(UserToken.expires_at < before)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        query = delete(UserToken).where(UserToken.id.in_(batch)).returning(UserToken.id)
        return len(self.session.scalars(query).all())


class LoginThrottleRepository(Repository[LoginThrottle]):
    """Counts of failed logins, found by the digest of the login."""

    model = LoginThrottle

    def reserve(self, login_hash: bytes, *, now: datetime, window: timedelta) -> int | None:
        """Count one more attempt and return the count; None while the login is locked.

        The count starts anew when ``window`` has passed since it began or since its last lock
        ended. One statement compares and counts, so parallel attempts get different numbers.
        """
        known = LoginThrottle
        quiet_since = func.coalesce(known.locked_until, known.window_started_at)
        forgotten = quiet_since <= now - window
        query = (
            insert(LoginThrottle)
            .values(login_hash=login_hash, failures=1, window_started_at=now)
            .on_conflict_do_update(
                index_elements=[known.login_hash],
                set_={
                    "failures": case((forgotten, 1), else_=known.failures + 1),
                    "window_started_at": case((forgotten, now), else_=known.window_started_at),
                    "locked_until": case((forgotten, null()), else_=known.locked_until),
                },
                where=or_(known.locked_until.is_(None), known.locked_until <= now),
            )
            .returning(known.failures)
        )
        return self.session.scalar(query)

    def lock(self, login_hash: bytes, until: datetime) -> None:
        """Refuse attempts on that login until a time."""
        query = update(LoginThrottle).where(LoginThrottle.login_hash == login_hash)
        self.session.execute(query.values(locked_until=until))

    def clear(self, login_hashes: Collection[bytes]) -> None:
        """Forget the failures of these logins and open them."""
        self.session.execute(
            delete(LoginThrottle).where(LoginThrottle.login_hash.in_(sorted(login_hashes)))
        )

    def delete_idle(self, before: datetime, *, limit: int = 1000) -> int:
        """Delete at most ``limit`` counts that neither began nor locked since a time."""
        quiet_since = func.coalesce(LoginThrottle.locked_until, LoginThrottle.window_started_at)
        batch = (
            select(LoginThrottle.login_hash)
            .where(quiet_since < before)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        key = LoginThrottle.login_hash
        query = delete(LoginThrottle).where(key.in_(batch)).returning(key)
        return len(self.session.scalars(query).all())
