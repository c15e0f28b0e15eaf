"""Keys of persons: what opens the personal fields of their events, until it is destroyed."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import CheckConstraint, Index, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from rootstream_db.models.base import Base, created_time


class SubjectKey(Base):
    """The key of one person, sealed by the key ring; an erased one is empty and stays so.

    There is no foreign key to accounts: the row outlives the account, as the log does.
    """

    __tablename__ = "subject_keys"
    __table_args__ = (
        CheckConstraint("(wrapped IS NULL) = (erased_at IS NOT NULL)", name="erased_is_empty"),
        CheckConstraint("(wrapped IS NULL) = (wrapped_key_id IS NULL)", name="wrapped_has_key_id"),
        Index(
            "ix_subject_keys_erased_at_subject_id",
            "erased_at",
            "subject_id",
            postgresql_where=text("erased_at IS NOT NULL"),
        ),
    )

    subject_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    wrapped: Mapped[bytes | None]
    wrapped_key_id: Mapped[int | None] = mapped_column(SmallInteger)
    created_at: Mapped[created_time] = mapped_column(init=False)
    erased_at: Mapped[datetime | None] = mapped_column(default=None)
