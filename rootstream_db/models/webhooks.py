"""Webhooks: endpoints that are told of events, and what became of every message."""

from __future__ import annotations

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Final

from sqlalchemy import (
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from rootstream_db.models.base import Base, choice, created_time, identity_key

MAX_REASON: Final = 500
"""Longest reason or error that is kept."""


class DeliveryState(StrEnum):
    """Where a message is on its way."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


class WebhookRelay(Base):
    """How far the relay has read a log: moved in the transaction that makes the deliveries."""

    __tablename__ = "webhook_relay"

    log_id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    last_position: Mapped[int]


class WebhookEndpoint(Base):
    """An address that is told of events; an empty ``event_types`` stands for all of them.

    Events up to ``after_position`` happened before the endpoint was there. ``secret`` signs; it is
    sealed by the key ring unless ``secret_key_id`` is empty. ``failing_since`` is the first failure
    after the last success.
    """

    __tablename__ = "webhook_endpoints"
    __table_args__ = (
        Index(
            "ix_webhook_endpoints_owner_id",
            "owner_id",
            postgresql_where=text("owner_id IS NOT NULL"),
        ),
    )

    id: Mapped[identity_key] = mapped_column(init=False)
    owner_id: Mapped[int | None] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), default=None
    )
    url: Mapped[str]
    description: Mapped[str] = mapped_column(String(200), default="", server_default="")
    event_types: Mapped[list[str]] = mapped_column(ARRAY(String(100)))
    secret: Mapped[bytes]
    secret_key_id: Mapped[int | None] = mapped_column(SmallInteger, default=None)
    after_position: Mapped[int]
    enabled: Mapped[bool] = mapped_column(default=True, server_default=text("true"))
    disabled_reason: Mapped[str | None] = mapped_column(String(MAX_REASON), default=None)
    failing_since: Mapped[datetime | None] = mapped_column(default=None)
    created_at: Mapped[created_time] = mapped_column(init=False)

    def wants(self, event_type: str, position: int) -> bool:
        """Whether the endpoint is to be told of such an event at that place of the log."""
        known = not self.event_types or event_type in self.event_types
        return known and position > self.after_position


class WebhookDelivery(Base):
    """One message: an event on its way to an endpoint.

    While it is pending, ``next_attempt_at`` is also the claim of the deliverer that works on it.
    ``attempts_before`` were made before it was last sent anew.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        UniqueConstraint("endpoint_id", "position"),
        Index(
            "ix_webhook_deliveries_endpoint_id_due",
            "endpoint_id",
            "next_attempt_at",
            postgresql_where=text("state = 'pending'"),
        ),
        Index(
            "ix_webhook_deliveries_finished_at",
            "finished_at",
            postgresql_where=text("finished_at IS NOT NULL"),
        ),
        {"postgresql_with": {"fillfactor": 80}},
    )

    id: Mapped[identity_key] = mapped_column(init=False)
    endpoint_id: Mapped[int] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    position: Mapped[int]
    event_id: Mapped[uuid.UUID]
    event_type: Mapped[str] = mapped_column(String(100))
    state: Mapped[DeliveryState] = mapped_column(
        choice(DeliveryState, "state"), default=DeliveryState.PENDING
    )
    attempts: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    attempts_before: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    next_attempt_at: Mapped[datetime]
    created_at: Mapped[created_time] = mapped_column(init=False)
    finished_at: Mapped[datetime | None] = mapped_column(default=None)


class WebhookAttempt(Base):
    """What one attempt met; an attempt without a row died with its deliverer."""

    __tablename__ = "webhook_attempts"
    __table_args__ = (PrimaryKeyConstraint("delivery_id", "number"),)

    delivery_id: Mapped[int] = mapped_column(
        ForeignKey("webhook_deliveries.id", ondelete="CASCADE")
    )
    number: Mapped[int] = mapped_column(Integer)
    attempted_at: Mapped[datetime]
    duration_ms: Mapped[int] = mapped_column(Integer)
    status: Mapped[int | None] = mapped_column(SmallInteger, default=None)
    error: Mapped[str | None] = mapped_column(String(MAX_REASON), default=None)
