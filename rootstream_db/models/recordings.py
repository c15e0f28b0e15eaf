"""Recordings: the files that live sessions left behind."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, Index, Numeric, SmallInteger, String, text
from sqlalchemy.orm import Mapped, mapped_column

from rootstream_db.models.base import SHA256_BYTES, Base, choice, created_time, identity_key


class RecordingStatus(StrEnum):
    """What is known about the file of a recording."""

    READY = "ready"
    UNREADABLE = "unreadable"
    DELETED = "deleted"


class Recording(Base):
    """One file, described by what was read from it: nothing here is a caller's claim."""

    __tablename__ = "recordings"
    __table_args__ = (
        CheckConstraint("size_bytes >= 0", name="size_bytes_not_negative"),
        CheckConstraint("duration_seconds >= 0", name="duration_seconds_not_negative"),
        CheckConstraint(f"octet_length(sha256) = {SHA256_BYTES}", name="sha256_length"),
        Index("ix_recordings_stream_id_created_at", "stream_id", "created_at"),
        Index(
            "ix_recordings_expires_at",
            "expires_at",
            postgresql_where=text("expires_at IS NOT NULL AND status <> 'deleted'"),
        ),
    )

    id: Mapped[identity_key] = mapped_column(init=False)
    stream_id: Mapped[int] = mapped_column(ForeignKey("streams.id", ondelete="CASCADE"))
    stream_session_id: Mapped[int | None] = mapped_column(
        ForeignKey("stream_sessions.id", ondelete="SET NULL"), default=None, index=True
    )
    file_path: Mapped[str] = mapped_column(unique=True)
    status: Mapped[RecordingStatus] = mapped_column(
        choice(RecordingStatus, "status"), default=RecordingStatus.READY
    )
    size_bytes: Mapped[int]
    sha256: Mapped[bytes]
    duration_seconds: Mapped[Decimal | None] = mapped_column(Numeric(12, 3), default=None)
    container: Mapped[str | None] = mapped_column(String(20), default=None)
    video_codec: Mapped[str | None] = mapped_column(String(50), default=None)
    audio_codec: Mapped[str | None] = mapped_column(String(50), default=None)
    width: Mapped[int | None] = mapped_column(SmallInteger, default=None)
    height: Mapped[int | None] = mapped_column(SmallInteger, default=None)
    created_at: Mapped[created_time] = mapped_column(init=False)
    expires_at: Mapped[datetime | None] = mapped_column(default=None)
