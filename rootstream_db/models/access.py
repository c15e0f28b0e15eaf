"""Who may do what: roles and grants, API keys, identities at other sites."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from rootstream_db.models.base import SHA256_BYTES, Base, counter, created_time, identity_key
from rootstream_db.security.permissions import MAX_PERMISSION

MAX_ROLE_NAME: Final = 50
MAX_ROLE_DESCRIPTION: Final = 200
MAX_KEY_LABEL: Final = 100
MAX_ISSUER: Final = 512
MAX_SUBJECT: Final = 255
"""Longest subject that OpenID Connect allows."""


class AccessState(Base):
    """One row: the generation of all roles, raised whenever one of them changes."""

    __tablename__ = "access_state"

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    generation: Mapped[counter] = mapped_column(default=0)


class Role(Base):
    """A named set of permissions; ``customized_at`` marks a built-in one that a site changed."""

    __tablename__ = "roles"

    id: Mapped[identity_key] = mapped_column(init=False)
    name: Mapped[str] = mapped_column(String(MAX_ROLE_NAME), unique=True)
    description: Mapped[str] = mapped_column(
        String(MAX_ROLE_DESCRIPTION), default="", server_default=""
    )
    is_builtin: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    customized_at: Mapped[datetime | None] = mapped_column(default=None)
    created_at: Mapped[created_time] = mapped_column(init=False)


class RolePermission(Base):
    """One pattern that a role holds."""

    __tablename__ = "role_permissions"
    __table_args__ = (PrimaryKeyConstraint("role_id", "permission"),)

    role_id: Mapped[int] = mapped_column(ForeignKey("roles.id", ondelete="CASCADE"))
    permission: Mapped[str] = mapped_column(String(MAX_PERMISSION))


class RoleParent(Base):
    """A role that another one inherits from."""

    __tablename__ = "role_parents"
    __table_args__ = (
        PrimaryKeyConstraint("role_id", "parent_id"),
        CheckConstraint("role_id <> parent_id", name="no_own_parent"),
    )

    role_id: Mapped[int] = mapped_column(ForeignKey("roles.id", ondelete="CASCADE"))
    parent_id: Mapped[int] = mapped_column(ForeignKey("roles.id", ondelete="CASCADE"), index=True)


class RoleGrant(Base):
    """A role that an account has: everywhere, or on one stream; for ever, or until a time."""

    __tablename__ = "role_grants"
    __table_args__ = (
        UniqueConstraint("user_id", "role_id", "stream_id", postgresql_nulls_not_distinct=True),
        Index("ix_role_grants_role_id", "role_id", "id"),
        Index(
            "ix_role_grants_stream_id",
            "stream_id",
            "id",
            postgresql_where=text("stream_id IS NOT NULL"),
        ),
        Index(
            "ix_role_grants_expires_at",
            "expires_at",
            postgresql_where=text("expires_at IS NOT NULL"),
        ),
    )

    id: Mapped[identity_key] = mapped_column(init=False)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    role_id: Mapped[int] = mapped_column(ForeignKey("roles.id", ondelete="CASCADE"))
    stream_id: Mapped[int | None] = mapped_column(
        ForeignKey("streams.id", ondelete="CASCADE"), default=None
    )
    granted_by: Mapped[int | None] = mapped_column(default=None)
    expires_at: Mapped[datetime | None] = mapped_column(default=None)
    created_at: Mapped[created_time] = mapped_column(init=False)


class AccessVersion(Base):
    """How often what an account may do has changed; cached copies carry the number."""

    __tablename__ = "access_versions"
    __table_args__ = {"postgresql_with": {"fillfactor": 80}}  # noqa: RUF012 - declared by SQLAlchemy

    user_id: Mapped[int] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    version: Mapped[counter] = mapped_column(default=0)


class ApiKey(Base):
    """A key by which a program acts for an account, within ``scopes``; only its digest is stored.

    After a rotation the old key holds until the end of the overlap, which is its ``expires_at``.
    """

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint(f"octet_length(key_hash) = {SHA256_BYTES}", name="key_hash_length"),
        Index("ix_api_keys_user_id", "user_id", "id"),
        {"postgresql_with": {"fillfactor": 80}},
    )

    id: Mapped[identity_key] = mapped_column(init=False)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    label: Mapped[str] = mapped_column(String(MAX_KEY_LABEL), default="", server_default="")
    prefix: Mapped[str] = mapped_column(String(20))
    key_hash: Mapped[bytes] = mapped_column(unique=True)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(String(MAX_PERMISSION)))
    version: Mapped[counter] = mapped_column(default=0)
    rotated_from: Mapped[int | None] = mapped_column(default=None)
    created_at: Mapped[created_time] = mapped_column(init=False)
    expires_at: Mapped[datetime | None] = mapped_column(default=None)
    rotated_at: Mapped[datetime | None] = mapped_column(default=None)
    revoked_at: Mapped[datetime | None] = mapped_column(default=None)
    last_used_at: Mapped[datetime | None] = mapped_column(default=None)

    def refusal(self, now: datetime) -> str | None:
        """Return why the key does not work at a time, or None if it does."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else None


class ExternalIdentity(Base):
    """Who an account is at another site; ``email`` is what that site said last, proof of nothing.

    The identity is the pair of issuer and subject: addresses are given up and given out again.
    """

    __tablename__ = "external_identities"
    __table_args__ = (
        UniqueConstraint("issuer", "subject"),
        Index("ix_external_identities_user_id", "user_id", "id"),
    )

    id: Mapped[identity_key] = mapped_column(init=False)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    issuer: Mapped[str] = mapped_column(String(MAX_ISSUER))
    subject: Mapped[str] = mapped_column(String(MAX_SUBJECT))
    email: Mapped[str | None] = mapped_column(String(254), default=None)
    created_at: Mapped[created_time] = mapped_column(init=False)
    last_login_at: Mapped[datetime | None] = mapped_column(default=None)
