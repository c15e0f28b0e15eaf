"""Security events: what happened, how bad it may be, and what rules made of it."""

from __future__ import annotations

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Index, PrimaryKeyConstraint, TypeDecorator, func, text
from sqlalchemy.dialects.postgresql import CIDR
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapped, mapped_column

from rootstream_db.models.base import Base, IpAddress, choice


class RiskLevel(StrEnum):
    """How bad it may be."""

    LOW = "low"
    """Part of normal life; of use when something else happened."""
    MEDIUM = "medium"
    """Unusual: the owner of the account should hear of it."""
    HIGH = "high"
    """Probably an attack: somebody should look today."""
    CRITICAL = "critical"
    """Probably a successful attack: somebody should look now."""

    @property
    def at_least(self) -> tuple[RiskLevel, ...]:
        """Return this level and those above it."""
        levels = tuple(RiskLevel)
        return levels[levels.index(self) :]


class SecurityEventKind(StrEnum):
    """What happened; from ``PASSWORD_SPRAYING`` on, what a rule concluded."""

    LOGIN_SUCCEEDED = "login_succeeded"
    LOGIN_FAILED = "login_failed"
    LOGIN_LOCKED = "login_locked"
    ADDRESS_BLOCKED = "address_blocked"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 - a kind of event
    PASSWORD_RESET = "password_reset"  # noqa: S105 - a kind of event
    ACCOUNT_CLOSED = "account_closed"
    MFA_FAILED = "mfa_failed"
    MFA_LOCKED = "mfa_locked"
    FACTOR_ADDED = "factor_added"
    FACTOR_REMOVED = "factor_removed"
    TOKEN_REUSED = "token_reused"  # noqa: S105 - a kind of event
    SESSIONS_REVOKED = "sessions_revoked"
    KEY_ISSUED = "key_issued"
    KEY_REVOKED = "key_revoked"
    ACCESS_CHANGED = "access_changed"
    PASSWORD_SPRAYING = "password_spraying"  # noqa: S105 - a kind of event
    CREDENTIAL_STUFFING = "credential_stuffing"
    IMPOSSIBLE_TRAVEL = "impossible_travel"
    NEW_DEVICE = "new_device"


class Network(TypeDecorator[str]):
    """A network in CIDR; text in Python, where psycopg would make objects of it."""

    impl = CIDR
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        """Return the network as PostgreSQL shows it."""
        return None if value is None else str(value)


class SecurityEvent(Base):
    """One security event; partitioned by month."""

    __tablename__ = "security_events"
    __table_args__ = (
        PrimaryKeyConstraint("occurred_at", "id"),
        Index(
            "ix_security_events_user_id_occurred_at",
            "user_id",
            "occurred_at",
            postgresql_where=text("user_id IS NOT NULL"),
        ),
        Index(
            "ix_security_events_network_occurred_at",
            "network",
            "occurred_at",
            postgresql_where=text("network IS NOT NULL"),
        ),
        {"postgresql_partition_by": "RANGE (occurred_at)"},
    )

    id: Mapped[uuid.UUID] = mapped_column(server_default=func.gen_random_uuid(), init=False)
    occurred_at: Mapped[datetime]
    kind: Mapped[SecurityEventKind] = mapped_column(choice(SecurityEventKind, "kind"))
    risk: Mapped[RiskLevel] = mapped_column(choice(RiskLevel, "risk"))
    user_id: Mapped[int | None] = mapped_column(default=None)
    login_hash: Mapped[bytes | None] = mapped_column(default=None)
    ip_address: Mapped[str | None] = mapped_column(IpAddress, default=None)
    network: Mapped[str | None] = mapped_column(Network, default=None)
    user_agent_hash: Mapped[bytes | None] = mapped_column(default=None)
    details: Mapped[dict[str, Any]] = mapped_column(
        default_factory=dict, server_default=text("'{}'")
    )
