"""The event log: what happened to every aggregate, in one dense global order, never changed."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from rootstream_db.models.base import SHA256_BYTES, Base, created_time


class EventLogHead(Base):
    """The end of the log: a counter row, so that positions are dense and visible in order.

    A sequence would hand out positions that become visible out of order and leave holes on
    rollback; the row lock on this counter costs one fsync at a time and nothing else.
    """

    __tablename__ = "event_log_head"
    __table_args__ = ({"postgresql_with": {"fillfactor": 10}},)

    log_id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    epoch: Mapped[uuid.UUID] = mapped_column(server_default=func.gen_random_uuid(), init=False)
    last_position: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    chain: Mapped[bytes]


class EventStream(Base):
    """The version of each aggregate: updating it is the optimistic concurrency check."""

    __tablename__ = "event_stream"
    __table_args__ = (
        PrimaryKeyConstraint("aggregate_type", "aggregate_id"),
        {"postgresql_with": {"fillfactor": 70}},
    )

    aggregate_type: Mapped[str] = mapped_column(String(100))
    aggregate_id: Mapped[str] = mapped_column(String(200))
    version: Mapped[int]


class EventLog(Base):
    """One event. ``position`` is its place in the log, ``version`` its place in the aggregate."""

    __tablename__ = "event_log"
    __table_args__ = (
        PrimaryKeyConstraint("log_id", "position"),
        UniqueConstraint("aggregate_type", "aggregate_id", "version"),
        CheckConstraint("version > 0", name="version_positive"),
        CheckConstraint(f"octet_length(row_hash) = {SHA256_BYTES}", name="row_hash_length"),
        Index(
            "ix_event_log_user_id_position",
            "user_id",
            "position",
            postgresql_where=text("user_id IS NOT NULL"),
        ),
        Index(
            "ix_event_log_subject_id_position",
            "subject_id",
            "position",
            postgresql_where=text("subject_id IS NOT NULL"),
        ),
    )

    log_id: Mapped[int] = mapped_column(SmallInteger)
    position: Mapped[int]
    event_id: Mapped[uuid.UUID] = mapped_column(unique=True)
    aggregate_type: Mapped[str] = mapped_column(String(100))
    aggregate_id: Mapped[str] = mapped_column(String(200))
    version: Mapped[int]
    event_type: Mapped[str] = mapped_column(String(100))
    schema_version: Mapped[int] = mapped_column(SmallInteger, server_default=text("1"))
    data: Mapped[dict[str, Any]]
    metadata_: Mapped[dict[str, Any]] = mapped_column(
        "metadata", server_default=text("'{}'::jsonb"), default_factory=dict
    )
    user_id: Mapped[int | None] = mapped_column(default=None)
    subject_id: Mapped[uuid.UUID | None] = mapped_column(default=None)
    correlation_id: Mapped[str | None] = mapped_column(String(200), default=None)
    causation_id: Mapped[uuid.UUID | None] = mapped_column(default=None)
    occurred_at: Mapped[datetime]
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp(), init=False)
    row_hash: Mapped[bytes]


class EventCommit(Base):
    """One row for each append: the hash chain from commit to commit that shows tampering."""

    __tablename__ = "event_commit"
    __table_args__ = (PrimaryKeyConstraint("log_id", "last_position"),)

    log_id: Mapped[int] = mapped_column(SmallInteger)
    last_position: Mapped[int]
    events: Mapped[int] = mapped_column(Integer)
    chain: Mapped[bytes]
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp(), init=False)


class Snapshot(Base):
    """The state of an aggregate at a version; a shortcut for replay, free to be thrown away."""

    __tablename__ = "snapshots"
    __table_args__ = (PrimaryKeyConstraint("aggregate_type", "aggregate_id", "version"),)

    aggregate_type: Mapped[str] = mapped_column(String(100))
    aggregate_id: Mapped[str] = mapped_column(String(200))
    version: Mapped[int]
    state: Mapped[dict[str, Any]]
    state_schema: Mapped[int] = mapped_column(SmallInteger, default=1, server_default=text("1"))
    checksum: Mapped[bytes]
    created_at: Mapped[created_time] = mapped_column(init=False)
