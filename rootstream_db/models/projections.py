"""Read models made of events, and how far each projection that makes one has come."""

from __future__ import annotations

import uuid
from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import (
    CheckConstraint,
    Integer,
    Numeric,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from rootstream_db.models.base import Base, created_time


class ProjectionCheckpoint(Base):
    """How far a projection has read a log; ``epoch`` tells when history was cut by a restore.

    ``rebuild_to`` is set while the read model is made anew: until ``last_position`` reaches it,
    rows are missing. ``failed_position`` and ``last_error`` tell what stops the projection.
    """

    __tablename__ = "projection_checkpoints"
    __table_args__ = (
        PrimaryKeyConstraint("name", "log_id"),
        CheckConstraint("(owner IS NULL) = (lease_until IS NULL)", name="owner_has_lease"),
    )

    name: Mapped[str] = mapped_column(String(100))
    log_id: Mapped[int] = mapped_column(SmallInteger)
    epoch: Mapped[uuid.UUID]
    last_position: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    owner: Mapped[str | None] = mapped_column(String(200), default=None)
    lease_until: Mapped[datetime | None] = mapped_column(default=None)
    updated_at: Mapped[created_time] = mapped_column(init=False)
    rebuild_to: Mapped[int | None] = mapped_column(default=None)
    attempts: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    failed_position: Mapped[int | None] = mapped_column(default=None)
    last_error: Mapped[str | None] = mapped_column(default=None)
    retry_at: Mapped[datetime | None] = mapped_column(default=None)


class StreamStatsDay(Base):
    """What the ended broadcasts of a stream add up to on one day, UTC."""

    __tablename__ = "stream_stats_day"
    __table_args__ = (PrimaryKeyConstraint("stream_id", "day"),)

    stream_id: Mapped[int]
    day: Mapped[date]
    broadcasts: Mapped[int]
    live_seconds: Mapped[Decimal] = mapped_column(Numeric(20, 6))
    bytes_in: Mapped[int]
    bytes_out: Mapped[int]
    views: Mapped[int]
    watch_seconds: Mapped[int]
    peak_viewers: Mapped[int]


class ActivityEntry(Base):
    """One thing a user did; ``position`` is that of its event."""

    __tablename__ = "activity_feed"
    __table_args__ = (PrimaryKeyConstraint("user_id", "position"),)

    user_id: Mapped[int]
    position: Mapped[int]
    event_type: Mapped[str] = mapped_column(String(100))
    subject: Mapped[str]
    occurred_at: Mapped[datetime]
