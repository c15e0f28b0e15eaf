"""Login sessions: one row a device that is signed in."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from rootstream_db.models.base import SHA256_BYTES, Base, created_time, identity_key


class UserSession(Base):
    """A login session; only the keyed digest of its token is stored."""

    __tablename__ = "sessions"
    __table_args__ = (
        CheckConstraint(f"octet_length(token_hash) = {SHA256_BYTES}", name="token_hash_length"),
        Index(
            "ix_sessions_user_id_open",
            "user_id",
            "last_seen_at",
            postgresql_where=text("revoked_at IS NULL"),
        ),
        Index("ix_sessions_expires_at", "expires_at"),
    )

    id: Mapped[identity_key] = mapped_column(init=False)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    user_agent: Mapped[str | None] = mapped_column(String(500), default=None)
    created_at: Mapped[created_time] = mapped_column(init=False)
    last_seen_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None] = mapped_column(default=None)
