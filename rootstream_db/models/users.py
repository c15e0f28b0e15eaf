"""Accounts: who somebody is, the one-time tokens they hold, and how often a login failed."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, func, text
from sqlalchemy.orm import Mapped, mapped_column

from rootstream_db.models.base import (
    SHA256_BYTES,
    Base,
    Timestamped,
    choice,
    created_time,
    identity_key,
    public_key,
)


class TokenPurpose(StrEnum):
    """What a one-time token may be redeemed for."""

    VERIFY_EMAIL = "verify_email"
    RESET_PASSWORD = "reset_password"  # noqa: S105 - a purpose, not a password


NO_PASSWORD: Final = "!"  # noqa: S105 - what no password hashes to
"""The password hash of an account that has no password: it is none, so that nothing matches it."""


class User(Timestamped, Base):
    """One account. Usernames and e-mail addresses are unique whatever their case."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("char_length(username) BETWEEN 3 AND 32", name="username_length"),
        CheckConstraint("char_length(email) BETWEEN 3 AND 254", name="email_length"),
        Index("uq_users_username_lower", func.lower(text("username")), unique=True),
        Index("uq_users_email_lower", func.lower(text("email")), unique=True),
    )

    id: Mapped[identity_key] = mapped_column(init=False)
    public_id: Mapped[public_key] = mapped_column(init=False, unique=True)
    username: Mapped[str] = mapped_column(String(32))
    email: Mapped[str] = mapped_column(String(254))
    password_hash: Mapped[str]
    display_name: Mapped[str | None] = mapped_column(String(100), default=None)
    avatar_url: Mapped[str | None] = mapped_column(String(2048), default=None)
    is_active: Mapped[bool] = mapped_column(default=True, server_default=text("true"))
    verified_at: Mapped[datetime | None] = mapped_column(default=None)
    password_changed_at: Mapped[datetime | None] = mapped_column(default=None)
    last_login_at: Mapped[datetime | None] = mapped_column(default=None)
    deactivated_at: Mapped[datetime | None] = mapped_column(default=None)
    auth_epoch: Mapped[int] = mapped_column(default=0, server_default=text("0"))

    @property
    def has_password(self) -> bool:
        """Whether the account can be logged in to with a password."""
        return self.password_hash != NO_PASSWORD

    @property
    def is_verified(self) -> bool:
        """Whether the owner proved that the e-mail address is theirs."""
        return self.verified_at is not None

    def verify(self, now: datetime) -> None:
        """Record that the e-mail address was proved."""
        self.verified_at = self.verified_at or now

    def deactivate(self, now: datetime) -> None:
        """Close the account without deleting it."""
        self.is_active = False
        self.deactivated_at = now

    def reactivate(self) -> None:
        """Open a deactivated account again."""
        self.is_active = True
        self.deactivated_at = None


class UserToken(Base):
    """A single-use token for verification or reset; only its keyed digest is stored."""

    __tablename__ = "user_tokens"
    __table_args__ = (
        CheckConstraint(f"octet_length(token_hash) = {SHA256_BYTES}", name="token_hash_length"),
    )

    id: Mapped[identity_key] = mapped_column(init=False)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    purpose: Mapped[TokenPurpose] = mapped_column(choice(TokenPurpose, "purpose"))
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    created_at: Mapped[created_time] = mapped_column(init=False)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None] = mapped_column(default=None)

    def is_usable(self, now: datetime) -> bool:
        """Whether the token can still be redeemed."""
        return self.used_at is None and now < self.expires_at


class LoginThrottle(Base):
    """Failed logins per login name, known or not, so that lockout tells nothing about existence."""

    __tablename__ = "login_throttle"
    __table_args__ = (
        CheckConstraint(f"octet_length(login_hash) = {SHA256_BYTES}", name="login_hash_length"),
        CheckConstraint("failures >= 0", name="failures_not_negative"),
    )

    login_hash: Mapped[bytes] = mapped_column(primary_key=True)
    failures: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    window_started_at: Mapped[datetime]
    locked_until: Mapped[datetime | None] = mapped_column(default=None)

    def wait(self, now: datetime) -> timedelta:
        """Return how long the login stays locked; zero when it is open."""
        if self.locked_until is None:
            return timedelta(0)
        return max(self.locked_until - now, timedelta(0))
