"""The archive of the event log: which events live in files, and what is still known of them."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import CheckConstraint, Integer, PrimaryKeyConstraint, SmallInteger, String
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from rootstream_db.models.base import SHA256_BYTES, Base, created_time

_DIGESTS = ("sha256", "index_sha256", "chain")


class EventArchive(Base):
    """One file of archived events: the manifest. Files follow one another without a hole."""

    __tablename__ = "event_archive"
    __table_args__ = (
        PrimaryKeyConstraint("log_id", "last_position"),
        CheckConstraint("first_position BETWEEN 1 AND last_position", name="positions"),
        CheckConstraint(
            " AND ".join(f"octet_length({name}) = {SHA256_BYTES}" for name in _DIGESTS),
            name="digest_lengths",
        ),
    )

    log_id: Mapped[int] = mapped_column(SmallInteger)
    first_position: Mapped[int]
    last_position: Mapped[int]
    file_name: Mapped[str] = mapped_column(String(200))
    size_bytes: Mapped[int]
    sha256: Mapped[bytes]
    index_sha256: Mapped[bytes]
    chain: Mapped[bytes]
    epoch: Mapped[uuid.UUID]
    recorded_from: Mapped[datetime]
    recorded_until: Mapped[datetime]
    created_at: Mapped[created_time] = mapped_column(init=False)


class EventArchivedId(Base):
    """The id of an archived event, where it stands, and what an equal event would hash to."""

    __tablename__ = "event_archived_id"
    __table_args__ = (
        CheckConstraint(f"octet_length(content_hash) = {SHA256_BYTES}", name="content_hash_length"),
    )

    event_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    position: Mapped[int]
    version: Mapped[int]
    recorded_at: Mapped[datetime]
    content_hash: Mapped[bytes]


class EventArchiveAggregate(Base):
    """The blocks of a file that hold events of an aggregate, the last of which has that version."""

    __tablename__ = "event_archive_aggregate"
    __table_args__ = (PrimaryKeyConstraint("aggregate_type", "aggregate_id", "last_version"),)

    aggregate_type: Mapped[str] = mapped_column(String(100))
    aggregate_id: Mapped[str] = mapped_column(String(200))
    last_version: Mapped[int]
    log_id: Mapped[int] = mapped_column(SmallInteger)
    last_position: Mapped[int]
    blocks: Mapped[list[int]] = mapped_column(ARRAY(Integer))


class EventArchiveUser(Base):
    """The blocks of a file that hold what a user did."""

    __tablename__ = "event_archive_user"
    __table_args__ = (PrimaryKeyConstraint("user_id", "log_id", "last_position"),)

    user_id: Mapped[int]
    log_id: Mapped[int] = mapped_column(SmallInteger)
    last_position: Mapped[int]
    blocks: Mapped[list[int]] = mapped_column(ARRAY(Integer))


class EventArchiveSubject(Base):
    """The blocks of a file that hold events with personal data of somebody."""

    __tablename__ = "event_archive_subject"
    __table_args__ = (PrimaryKeyConstraint("subject_id", "log_id", "last_position"),)

    subject_id: Mapped[uuid.UUID]
    log_id: Mapped[int] = mapped_column(SmallInteger)
    last_position: Mapped[int]
    blocks: Mapped[list[int]] = mapped_column(ARRAY(Integer))
