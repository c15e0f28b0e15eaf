"""What happened: one row for each time a stream was live, one for each viewer who watched."""

from __future__ import annotations

import uuid
from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from rootstream_db.models.base import Base, choice, counter, identity_key


class EndReason(StrEnum):
    """Why a stream session ended."""

    STOPPED = "stopped"
    GRACE_EXPIRED = "grace_expired"
    SUPERSEDED = "superseded"
    KEY_REVOKED = "key_revoked"


class StreamSession(Base):
    """One continuous broadcast, reconnects within the grace window included."""

    __tablename__ = "stream_sessions"
    __table_args__ = (
        CheckConstraint("ended_at >= started_at", name="ends_after_start"),
        CheckConstraint("(ended_at IS NULL) = (end_reason IS NULL)", name="end_has_reason"),
        # The database's promise that a stream is never live twice.
        Index(
            "uq_stream_sessions_stream_id_open",
            "stream_id",
            unique=True,
            postgresql_where=text("ended_at IS NULL"),
        ),
        Index("ix_stream_sessions_stream_id_started_at", "stream_id", "started_at"),
    )

    id: Mapped[identity_key] = mapped_column(init=False)
    stream_id: Mapped[int] = mapped_column(ForeignKey("streams.id", ondelete="CASCADE"))
    # No foreign key: keys are revoked, never deleted, and both rows go with their stream.
    stream_key_id: Mapped[int | None] = mapped_column(default=None)
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None] = mapped_column(default=None)
    end_reason: Mapped[EndReason | None] = mapped_column(
        choice(EndReason, "end_reason"), default=None
    )
    node: Mapped[str | None] = mapped_column(String(200), default=None)
    protocol: Mapped[str] = mapped_column(String(20), default="rtmp")
    encoder: Mapped[str | None] = mapped_column(String(200), default=None)
    reconnects: Mapped[counter] = mapped_column(default=0)
    bytes_in: Mapped[counter] = mapped_column(default=0)
    bytes_out: Mapped[counter] = mapped_column(default=0)
    views: Mapped[counter] = mapped_column(default=0)
    watch_seconds: Mapped[counter] = mapped_column(default=0)
    peak_viewers: Mapped[counter] = mapped_column(default=0)
    peak_at: Mapped[datetime | None] = mapped_column(default=None)
    width: Mapped[int | None] = mapped_column(SmallInteger, default=None)
    height: Mapped[int | None] = mapped_column(SmallInteger, default=None)


class ViewerSession(Base):
    """One viewer's visit to a stream; partitioned by day, dropped by retention."""

    __tablename__ = "viewer_sessions"
    __table_args__ = (
        PrimaryKeyConstraint("started_at", "id"),
        CheckConstraint("watch_seconds >= 0", name="watch_seconds_not_negative"),
        Index("ix_viewer_sessions_stream_id_started_at", "stream_id", "started_at"),
        Index(
            "ix_viewer_sessions_user_id_started_at",
            "user_id",
            "started_at",
            postgresql_where=text("user_id IS NOT NULL"),
        ),
        {"postgresql_partition_by": "RANGE (started_at)"},
    )

    id: Mapped[uuid.UUID] = mapped_column(server_default=func.gen_random_uuid(), init=False)
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime]
    stream_id: Mapped[int] = mapped_column(ForeignKey("streams.id", ondelete="CASCADE"))
    stream_session_id: Mapped[int | None] = mapped_column(default=None)
    user_id: Mapped[int | None] = mapped_column(
        ForeignKey("users.id", ondelete="SET NULL"), default=None
    )
    viewer_hash: Mapped[bytes]
    watch_seconds: Mapped[counter] = mapped_column(default=0)
    bytes_out: Mapped[counter] = mapped_column(default=0)
    country: Mapped[str | None] = mapped_column(String(2), default=None)
    device: Mapped[str | None] = mapped_column(String(50), default=None)


class CounterFlush(Base):
    """The receipt of one counter flush: its presence makes applying it again a no-op."""

    __tablename__ = "counter_flushes"
    __table_args__ = (Index("ix_counter_flushes_flushed_at", "flushed_at"),)

    flush_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    flushed_at: Mapped[datetime]
    streams: Mapped[int]
    increments: Mapped[int]
