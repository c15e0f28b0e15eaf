"""The record of what bears on security: written beside every other work, never in its way."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeVar

from rootstream_db.audit import current_audit_context
from rootstream_db.models import RiskLevel, SecurityEvent, SecurityEventKind
from rootstream_db.services.security_events.values import (
    USUAL_RISK,
    Finding,
    Report,
    network_of,
    user_agent_hash,
)

if TYPE_CHECKING:
    from rootstream_db.database import Database
    from rootstream_db.unit_of_work import UnitOfWork

T = TypeVar("T")
_logger: Final = logging.getLogger(__name__)
_MOST_LISTED: Final = 10_000


class SecurityMonitor:
    """Records security events and lists them.

    Recording never fails and never waits long: an event that cannot be written within a second is
    logged and counted in ``lost``, and whoever reported it goes on.

    Args:
        database: where events are written, in transactions beside the caller's.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lost = 0
        self._counting = threading.Lock()

    @property
    def lost(self) -> int:
        """Return how many reports could not be recorded since this was made."""
        return self._lost

    def record(self, report: Report) -> None:
        """Record something that happened, now and whatever becomes of the caller's transaction.

        Address and client are those of the ``acting`` block around unless the report names them.
        """
        self.beside(report.kind, lambda work: work.security_events.add(event_of(report, work.now)))

    def record_after(self, work: UnitOfWork, report: Report) -> None:
        """Record something once the unit of work has made it true."""
        complete = _completed(report)
        work.after_commit(lambda: self.record(complete), name=f"record {report.kind}")

    def list_events(
        self,
        *,
        user_id: int | None = None,
        risk: RiskLevel = RiskLevel.LOW,
        kind: SecurityEventKind | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> Sequence[SecurityEvent]:
        """Return events of at least that risk, newest first."""
        most = max(1, min(limit, _MOST_LISTED))
        with self._database.read() as work:
            if user_id is None:
                return work.security_events.list_newest(
                    risk=risk, kind=kind, since=since, limit=most
                )
            found = work.security_events.list_by_user(
                user_id, kind=kind, since=since, limit=_MOST_LISTED
            )
        return [event for event in found if event.risk in risk.at_least][:most]

    def beside(self, what: str, act: Callable[[UnitOfWork], T]) -> T | None:
        """Return what ``act`` does in a short transaction of its own; None if that failed."""
        try:
            with self._database.independent() as work:
                work.security_events.be_quick()
                return act(work)
        except Exception:
            with self._counting:
                self._lost += 1
            _logger.exception("the security event %s was not recorded", what)
            return None


def event_of(report: Report, now: datetime) -> SecurityEvent:
    """Return the row of a report."""
    report = _completed(report)
    address = report.ip_address
    return SecurityEvent(
        occurred_at=now,
        kind=report.kind,
        risk=report.risk or USUAL_RISK.get(report.kind, RiskLevel.LOW),
        user_id=report.user_id,
        login_hash=report.login_hash,
        ip_address=address,
        network=None if address is None else network_of(address),
        user_agent_hash=user_agent_hash(report.user_agent),
        details=dict(report.details),
    )


def report_of(finding: Finding, cause: Report) -> Report:
    """Return what is recorded of a conclusion drawn from something that happened."""
    return Report(
        kind=finding.kind,
        risk=finding.risk,
        user_id=cause.user_id,
        ip_address=cause.ip_address,
        user_agent=cause.user_agent,
        details={"reason": finding.reason, **finding.details},
    )


def _completed(report: Report) -> Report:
    context = current_audit_context()
    if context is None:
        return report
    return Report(
        kind=report.kind,
        risk=report.risk,
        user_id=report.user_id,
        login_hash=report.login_hash,
        ip_address=report.ip_address or context.ip_address,
        user_agent=report.user_agent or context.user_agent,
        details=report.details,
    )
