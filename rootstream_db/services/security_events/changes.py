"""Which events of the log bear on security: who may do what, and by what they prove it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import orjson

from rootstream_db.models import SecurityEventKind
from rootstream_db.services.security_events.values import Report

if TYPE_CHECKING:
    from rootstream_db.services.event_store import PendingEvent
    from rootstream_db.services.security_events.monitor import SecurityMonitor
    from rootstream_db.unit_of_work import UnitOfWork

_ACCOUNT: Final = "User"
_KIND: Final = SecurityEventKind

KINDS: Final[Mapping[str, SecurityEventKind]] = {
    "PasswordChanged": _KIND.PASSWORD_CHANGED,
    "PasswordReset": _KIND.PASSWORD_RESET,
    "UserDeactivated": _KIND.ACCOUNT_CLOSED,
    "MfaFactorAdded": _KIND.FACTOR_ADDED,
    "BackupCodesGenerated": _KIND.FACTOR_ADDED,
    "DeviceTrusted": _KIND.FACTOR_ADDED,
    "IdentityLinked": _KIND.FACTOR_ADDED,
    "MfaFactorRemoved": _KIND.FACTOR_REMOVED,
    "MfaReset": _KIND.FACTOR_REMOVED,
    "DeviceDistrusted": _KIND.FACTOR_REMOVED,
    "IdentityUnlinked": _KIND.FACTOR_REMOVED,
    "MfaMethodDisabled": _KIND.MFA_LOCKED,
    "SessionsRevoked": _KIND.SESSIONS_REVOKED,
    "SessionUsedFromAnotherDevice": _KIND.TOKEN_REUSED,
    "StreamKeyIssued": _KIND.KEY_ISSUED,
    "StreamKeyRevoked": _KIND.KEY_REVOKED,
    "ApiKeyIssued": _KIND.KEY_ISSUED,
    "ApiKeyRotated": _KIND.KEY_ISSUED,
    "ApiKeyRevoked": _KIND.KEY_REVOKED,
    "RoleGranted": _KIND.ACCESS_CHANGED,
    "RoleRevoked": _KIND.ACCESS_CHANGED,
    "RolePermissionsSet": _KIND.ACCESS_CHANGED,
    "RoleParentAdded": _KIND.ACCESS_CHANGED,
    "RoleParentRemoved": _KIND.ACCESS_CHANGED,
}
"""Events of the log that are security events too."""

_STOLEN: Final = "reuse"
"""The reason for which sessions end when a replaced token is used again."""


class ChangeMonitor:
    """Makes security events of what the log says changed, once that is committed.

    Args:
        monitor: where they are recorded.
    """

    def __init__(self, monitor: SecurityMonitor) -> None:
        self._monitor = monitor

    def notice(self, work: UnitOfWork, events: Sequence[PendingEvent]) -> None:
        """Look at events that are about to be committed."""
        for event in events:
            kind = KINDS.get(event.event_type)
            if kind is not None:
                self._monitor.record_after(work, _report(kind, event))


def _report(kind: SecurityEventKind, event: PendingEvent) -> Report:
    data = orjson.loads(event.facts.data)
    if kind is _KIND.SESSIONS_REVOKED and data.get("reason") == _STOLEN:
        kind = _KIND.TOKEN_REUSED
    on_account = event.aggregate_type == _ACCOUNT
    return Report(
        kind=kind,
        user_id=int(event.aggregate_id) if on_account else event.facts.user_id,
        details={"event": event.event_type, "of": f"{event.aggregate_type} {event.aggregate_id}"},
    )
