"""Where security events are found."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, select

from rootstream_db.models.security_events import RiskLevel, SecurityEvent, SecurityEventKind
from rootstream_db.repositories.base import Repository

_WAIT = timedelta(seconds=1)


class SecurityEventRepository(Repository[SecurityEvent]):
    """Security events, found by account or network and time."""

    model = SecurityEvent

    def be_quick(self, longest: timedelta = _WAIT) -> None:
        """Let no statement of this transaction take longer: nobody waits for what is only noted."""
        limit = f"{longest // timedelta(milliseconds=1)}ms"
        names = ("statement_timeout", "lock_timeout")
        self.session.execute(select(*(func.set_config(name, limit, True) for name in names)))

    def take_turn(self, network: str) -> None:
        """Wait until no other transaction concludes something about the network."""
        key = func.hashtextextended(f"security_events {network}", 0)
        self.session.execute(select(func.pg_advisory_xact_lock(key)))

    def list_by_network(
        self, network: str, *, since: datetime, limit: int = 500
    ) -> Sequence[SecurityEvent]:
        """Return what came from a network since a time, newest first."""
        query = (
            select(SecurityEvent)
            .where(SecurityEvent.network == network, SecurityEvent.occurred_at >= since)
            .order_by(SecurityEvent.occurred_at.desc())
            .limit(limit)
        )
        return self.session.scalars(query).all()

    def list_by_user(
        self,
        user_id: int,
        *,
        kind: SecurityEventKind | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> Sequence[SecurityEvent]:
        """Return what happened to an account, newest first."""
        query = select(SecurityEvent).where(SecurityEvent.user_id == user_id)
        if kind is not None:
            query = query.where(SecurityEvent.kind == kind)
        if since is not None:
            query = query.where(SecurityEvent.occurred_at >= since)
        query = query.order_by(SecurityEvent.occurred_at.desc()).limit(limit)
        return self.session.scalars(query).all()

    def list_newest(
        self,
        *,
        risk: RiskLevel = RiskLevel.LOW,
        kind: SecurityEventKind | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> Sequence[SecurityEvent]:
        """Return events of at least that risk, newest first."""
        query = select(SecurityEvent).where(SecurityEvent.risk.in_(risk.at_least))
        if kind is not None:
            query = query.where(SecurityEvent.kind == kind)
        if since is not None:
            query = query.where(SecurityEvent.occurred_at >= since)
        query = query.order_by(SecurityEvent.occurred_at.desc()).limit(limit)
        return self.session.scalars(query).all()
