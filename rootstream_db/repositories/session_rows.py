"""The statements of the hot path of sessions, and the rows that go in and come out."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from operator import attrgetter
from typing import Any, Final, NamedTuple

from rootstream_db.security.assurance import AssuranceLevel, MfaMethod

FIND_SQL: Final = """
SELECT s.id, s.user_id, s.level, s.mfa_method, s.authenticated_at, s.mfa_at, s.created_at,
    s.last_seen_at, s.idle_expires_at, s.expires_at, s.revoked_at, s.revoke_reason,
    coalesce(s.family_id, s.id), s.device_fingerprint,
    s.auth_epoch = u.auth_epoch AND u.is_active, s.generation, a.generation
FROM sessions AS s JOIN users AS u ON u.id = s.user_id CROSS JOIN auth_state AS a
WHERE s.token_hash = %s
"""
OPEN_SQL: Final = """
SELECT outcome, session_id, session_generation, ended_ids, ended FROM open_session(
    %s::bigint, %s::bigint, %s::bytea, %s::smallint, %s::timestamptz, %s::timestamptz,
    %s::timestamptz, %s::smallint, %s::text, %s::timestamptz, %s::timestamptz, %s::bytea, %s::text,
    %s::inet, %s::text, %s::text, %s::integer, %s::bigint, %s::bigint)
"""
TOUCH_SQL: Final = """
SELECT touched_idle_expires_at
FROM touch_session(%s::bigint, %s::timestamptz, %s::interval, %s::interval, %s::inet)
"""


class FoundSession(NamedTuple):
    """A session as PostgreSQL has it, and what of its account and of all sessions bears on it."""

    id: int
    user_id: int
    level: int
    mfa_method: str | None
    authenticated_at: datetime
    mfa_at: datetime | None
    created_at: datetime
    last_seen_at: datetime
    idle_expires_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    revoke_reason: str | None
    family: int
    device_fingerprint: bytes | None
    is_account_unchanged: bool
    generation: int
    current_generation: int


def found_session(values: tuple[Any, ...] | None) -> FoundSession | None:
    """Return what ``FIND_SQL`` found, if it found anything."""
    return None if values is None else FoundSession._make(values)


class OpenedSession(NamedTuple):
    """What became of opening a session; ``outcome`` is as the function of that name says."""

    outcome: str
    session_id: int
    generation: int
    ended_ids: list[int]
    ended: list[bytes]


class EndedSession(NamedTuple):
    """A session that was ended."""

    id: int
    user_id: int
    token_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSession:
    """A session to be opened.

    Attributes:
        auth_epoch: the epoch of the account as the caller saw it.
        limit: most open sessions of the account; not looked at when one is replaced.
        replaces: the session whose place this one takes.
        family: the first session of the chain it belongs to.
    """

    user_id: int
    auth_epoch: int
    token_hash: bytes
    token_version: int
    now: datetime
    idle_expires_at: datetime
    expires_at: datetime
    level: int
    mfa_method: str | None
    authenticated_at: datetime
    mfa_at: datetime | None
    device_fingerprint: bytes | None
    device_label: str | None
    ip_address: str | None
    user_agent: str | None
    location: str | None
    limit: int
    replaces: int | None = None
    family: int | None = None

    def columns(self) -> dict[str, Any]:
        """Return what the row holds beside what the database chose for it."""
        return {
            "user_id": self.user_id,
            "auth_epoch": self.auth_epoch,
            "token_hash": self.token_hash,
            "token_version": self.token_version,
            "created_at": self.now,
            "last_seen_at": self.now,
            "idle_expires_at": self.idle_expires_at,
            "expires_at": self.expires_at,
            "level": AssuranceLevel(self.level),
            "mfa_method": None if self.mfa_method is None else MfaMethod(self.mfa_method),
            "authenticated_at": self.authenticated_at,
            "mfa_at": self.mfa_at,
            "device_fingerprint": self.device_fingerprint,
            "device_label": self.device_label,
            "ip_address": self.ip_address,
            "last_ip_address": self.ip_address,
            "user_agent": self.user_agent,
            "location": self.location,
            "rotated_from": self.replaces,
            "family_id": self.family,
            "revoked_at": None,
            "revoke_reason": None,
        }

    def parameters(self) -> tuple[Any, ...]:
        """Return the values in the order of the function's parameters."""
        values: tuple[Any, ...] = _PARAMETERS(self)
        return values


_PARAMETERS: Final = attrgetter(*(field.name for field in fields(NewSession)))
