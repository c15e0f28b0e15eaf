"""Billing: who pays, and the metered usage they pay for."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    Numeric,
    PrimaryKeyConstraint,
    String,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from rootstream_db.models.base import Base, Timestamped, choice, created_time, identity_key


class BillingStatus(StrEnum):
    """Whether an account may go on using what it pays for."""

    ACTIVE = "active"
    PAST_DUE = "past_due"
    SUSPENDED = "suspended"
    CLOSED = "closed"


class UsageKind(StrEnum):
    """What is metered; the unit is part of the name."""

    INGEST_BYTES = "ingest_bytes"
    EGRESS_BYTES = "egress_bytes"
    LIVE_SECONDS = "live_seconds"
    WATCH_SECONDS = "watch_seconds"
    RECORDING_BYTES = "recording_bytes"


class BillingAccount(Timestamped, Base):
    """Who pays. It outlives the user: money records stay when the person is deleted."""

    __tablename__ = "billing_accounts"
    __table_args__ = (CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency_iso_4217"),)

    id: Mapped[identity_key] = mapped_column(init=False)
    user_id: Mapped[int | None] = mapped_column(
        ForeignKey("users.id", ondelete="SET NULL"), unique=True, default=None
    )
    plan: Mapped[str] = mapped_column(String(50), default="free")
    status: Mapped[BillingStatus] = mapped_column(
        choice(BillingStatus, "status"), default=BillingStatus.ACTIVE
    )
    currency: Mapped[str] = mapped_column(String(3), default="EUR")
    balance: Mapped[Decimal] = mapped_column(
        Numeric(18, 4), default=Decimal(0), server_default=text("0")
    )


class UsageLog(Base):
    """One metered quantity; the same key at the same moment counts once. Partitioned by month."""

    __tablename__ = "usage_logs"
    __table_args__ = (
        PrimaryKeyConstraint("occurred_at", "idempotency_key"),
        CheckConstraint("quantity >= 0", name="quantity_not_negative"),
        Index("ix_usage_logs_billing_account_id_occurred_at", "billing_account_id", "occurred_at"),
        {"postgresql_partition_by": "RANGE (occurred_at)"},
    )

    occurred_at: Mapped[datetime]
    idempotency_key: Mapped[str] = mapped_column(String(200))
    billing_account_id: Mapped[int] = mapped_column(
        ForeignKey("billing_accounts.id", ondelete="RESTRICT")
    )
    stream_id: Mapped[int | None] = mapped_column(default=None)
    kind: Mapped[UsageKind] = mapped_column(choice(UsageKind, "kind"))
    quantity: Mapped[Decimal] = mapped_column(Numeric(20, 3))
    recorded_at: Mapped[created_time] = mapped_column(init=False)
