"""Whether a session holds, from what PostgreSQL says about it. Pure: no clock, no I/O."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum, auto

from rootstream_db.models.sessions import RevokeReason
from rootstream_db.repositories.session_rows import FoundSession
from rootstream_db.security.assurance import AssuranceLevel


class Verdict(Enum):
    """What a session is worth."""

    HOLDS = auto()
    UNKNOWN = auto()
    """There is no such session, or not any more."""
    OVER = auto()
    """It was revoked, or its account or everybody's sessions moved on."""
    REPLACED = auto()
    """Another session took its place, a moment ago: a request that was under way."""
    STOLEN = auto()
    """Another session took its place long ago: two parties have had its token."""
    EXPIRED = auto()
    SUSPENDED = auto()
    """Its user has to log in again to go on with it."""


def verdict_on(found: FoundSession | None, *, now: datetime, grace: timedelta) -> Verdict:
    """Judge a session as it is now."""
    if found is None:
        return Verdict.UNKNOWN
    if found.revoked_at is not None:
        return _verdict_on_revoked(found, found.revoked_at, now=now, grace=grace)
    if not found.is_account_unchanged or found.generation != found.current_generation:
        return Verdict.OVER
    if now >= found.expires_at or now >= found.idle_expires_at:
        return Verdict.EXPIRED
    return Verdict.SUSPENDED if found.level == AssuranceLevel.NONE else Verdict.HOLDS


def _verdict_on_revoked(
    found: FoundSession, revoked_at: datetime, *, now: datetime, grace: timedelta
) -> Verdict:
    if found.revoke_reason != RevokeReason.ROTATED:
        return Verdict.OVER
    return Verdict.STOLEN if now - revoked_at > grace else Verdict.REPLACED
