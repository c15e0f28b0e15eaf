"""What is told about sessions: events of the account, in the same transaction."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

from rootstream_db.models import RevokeReason, UserSession

if TYPE_CHECKING:
    from rootstream_db.services.event_store import EventStore
    from rootstream_db.unit_of_work import UnitOfWork

AGGREGATE: Final = "User"
"""Aggregate type of the events of sessions; the aggregate's id is the account's."""

EVERYBODY: Final = "AuthState"
"""Aggregate type of what happens to all sessions at once."""


class SessionJournal:
    """Appends the events of sessions; they never hold tokens or digests.

    Where a client was and what it calls itself is personal: sealed with the account's own key.
    """

    def __init__(self, events: EventStore) -> None:
        self._events = events

    def opened(
        self,
        work: UnitOfWork,
        session: UserSession,
        event: str,
        *,
        ended: Collection[int],
        subject_id: uuid.UUID | None = None,
    ) -> None:
        """Record a new session and those that gave way to it."""
        data = {
            "session_id": session.id,
            "level": session.level.name,
            "mfa_method": session.mfa_method,
            "ended": list(ended),
        }
        client = {"ip_address": session.ip_address, "device_label": session.device_label}
        self._append(work, session.user_id, event, data, personal=client, subject_id=subject_id)

    def ended(
        self, work: UnitOfWork, user_id: int, ids: Collection[int], reason: RevokeReason
    ) -> None:
        """Record that sessions of one account ended, if any did."""
        if ids:
            data = {"session_ids": sorted(ids), "reason": reason.value}
            self._append(work, user_id, "SessionsRevoked", data)

    def used_elsewhere(
        self, work: UnitOfWork, user_id: int, session_id: int, ip_address: str | None
    ) -> None:
        """Record that a session was used from another device."""
        data = {"session_id": session_id}
        client = {"ip_address": ip_address}
        self._append(work, user_id, "SessionUsedFromAnotherDevice", data, personal=client)

    def everybody(self, work: UnitOfWork, generation: int, reason: str) -> None:
        """Record that all sessions of all accounts ended."""
        data = {"generation": generation, "reason": reason}
        self._events.append(work, EVERYBODY, "sessions", "AllSessionsInvalidated", data)

    def _append(
        self,
        work: UnitOfWork,
        user_id: int,
        event: str,
        data: dict[str, Any],
        *,
        personal: dict[str, str | None] | None = None,
        subject_id: uuid.UUID | None = None,
    ) -> None:
        known = {name: text for name, text in (personal or {}).items() if text is not None}
        self._events.append(
            work,
            AGGREGATE,
            str(user_id),
            event,
            data,
            personal=known or None,
            user_id=user_id,
            subject_id=subject_id,
        )
