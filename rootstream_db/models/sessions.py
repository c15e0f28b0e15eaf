"""Login sessions: one row a device that is signed in, and what holds for all of them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Dialect,
    ForeignKey,
    Index,
    SmallInteger,
    String,
    TypeDecorator,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from rootstream_db.models.base import (
    SHA256_BYTES,
    Base,
    IpAddress,
    choice,
    created_time,
    identity_key,
)
from rootstream_db.security.assurance import AssuranceLevel, MfaMethod

FINGERPRINT_BYTES = 16
"""Length of the keyed digest of what a client says about its device."""


class RevokeReason(StrEnum):
    """Why a session ended before its time."""

    LOGOUT = "logout"
    USER = "user"
    """Ended by its user from another session."""
    ADMIN = "admin"
    LIMIT = "limit"
    """The least recently used one, because the account has too many."""
    PASSWORD = "password"  # noqa: S105 - a reason, not a password
    MFA = "mfa"
    ACCESS = "access"
    """What the account may do was changed."""
    ACCOUNT = "account"
    """The account was closed or deleted."""
    DEVICE = "device"
    """It was used from another device, and the policy is to end it."""
    ROTATED = "rotated"
    """Another session, with another token, took its place."""
    REUSE = "reuse"
    """A token that had been replaced was used again: somebody has a copy."""


class _Level(TypeDecorator[AssuranceLevel]):
    """An assurance level as a small number."""

    impl = SmallInteger
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> AssuranceLevel | None:
        return None if value is None else AssuranceLevel(value)


class UserSession(Base):
    """A login session; only the keyed digest of its token is stored."""

    __tablename__ = "sessions"
    __table_args__ = (
        CheckConstraint(f"octet_length(token_hash) = {SHA256_BYTES}", name="token_hash_length"),
        CheckConstraint("level BETWEEN 0 AND 3", name="level"),
        CheckConstraint("level < 2 OR mfa_at IS NOT NULL", name="level_needs_mfa"),
        CheckConstraint("(mfa_at IS NULL) = (mfa_method IS NULL)", name="mfa_is_whole"),
        CheckConstraint("idle_expires_at <= expires_at", name="idle_within_absolute"),
        CheckConstraint(
            "(revoked_at IS NULL) = (revoke_reason IS NULL)", name="revoked_for_a_reason"
        ),
        CheckConstraint(
            f"octet_length(device_fingerprint) = {FINGERPRINT_BYTES}",
            name="device_fingerprint_length",
        ),
        # Never with last_seen_at or idle_expires_at: a touch would no longer be a HOT update.
        Index("ix_sessions_user_id_open", "user_id", postgresql_where=text("revoked_at IS NULL")),
        Index("ix_sessions_expires_at", "expires_at"),
        {"postgresql_with": {"fillfactor": 80}},
    )

    id: Mapped[identity_key] = mapped_column(init=False)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    user_agent: Mapped[str | None] = mapped_column(String(500), default=None)
    created_at: Mapped[created_time] = mapped_column(init=False)
    last_seen_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None] = mapped_column(default=None)
    token_version: Mapped[int] = mapped_column(SmallInteger)
    generation: Mapped[int]
    auth_epoch: Mapped[int]
    level: Mapped[AssuranceLevel] = mapped_column(_Level)
    mfa_method: Mapped[MfaMethod | None] = mapped_column(
        choice(MfaMethod, "mfa_method"), default=None
    )
    authenticated_at: Mapped[datetime]
    mfa_at: Mapped[datetime | None] = mapped_column(default=None)
    idle_expires_at: Mapped[datetime]
    revoke_reason: Mapped[RevokeReason | None] = mapped_column(
        choice(RevokeReason, "revoke_reason"), default=None
    )
    rotated_from: Mapped[int | None] = mapped_column(default=None)
    family_id: Mapped[int | None] = mapped_column(default=None)
    device_fingerprint: Mapped[bytes | None] = mapped_column(default=None)
    device_label: Mapped[str | None] = mapped_column(String(120), default=None)
    ip_address: Mapped[str | None] = mapped_column(IpAddress, default=None)
    last_ip_address: Mapped[str | None] = mapped_column(IpAddress, default=None)
    location: Mapped[str | None] = mapped_column(String(200), default=None)

    @property
    def family(self) -> int:
        """The first session of the chain of rotations that led to this one."""
        return self.family_id or self.id


class AuthState(Base):
    """What holds for all sessions: their generation. One row."""

    __tablename__ = "auth_state"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(
        SmallInteger, primary_key=True, autoincrement=False, server_default=text("1"), init=False
    )
    generation: Mapped[int] = mapped_column(server_default=text("1"), init=False)
    reason: Mapped[str | None] = mapped_column(String(200), default=None)
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now(), init=False)


class SessionInvalidation(Base):
    """A session that ended while Redis could not be told."""

    __tablename__ = "session_invalidations"
    __table_args__ = (
        CheckConstraint(f"octet_length(token_hash) = {SHA256_BYTES}", name="token_hash_length"),
    )

    id: Mapped[identity_key] = mapped_column(init=False)
    token_hash: Mapped[bytes]
    rotated: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    created_at: Mapped[created_time] = mapped_column(init=False)
