"""Grants: who has which role, where and until when."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rootstream_db.audit import current_audit_context
from rootstream_db.errors import NotFoundError
from rootstream_db.models import Stream, User
from rootstream_db.models.access import RoleGrant
from rootstream_db.services.access.changes import AccessChange, AccessChanges
from rootstream_db.services.access.journal import AccessJournal
from rootstream_db.services.access.rules import check_expiry
from rootstream_db.unit_of_work import UnitOfWork


class GrantBook:
    """What an administrator does with grants, in the caller's unit of work."""

    _changes: AccessChanges
    _journal: AccessJournal

    def grant(
        self,
        work: UnitOfWork,
        user: User,
        role: str,
        *,
        stream: Stream | None = None,
        expires_at: datetime | None = None,
        granted_by: User | None = None,
    ) -> RoleGrant:
        """Give an account a role; one that it has already gets the new expiry.

        Args:
            work: the unit of work.
            user: who is to have the role.
            role: its name.
            stream: the only stream where it counts; None: everywhere.
            expires_at: when it ends; None: never.
            granted_by: who gives it; default: who acts, as ``audit.acting`` says.

        Raises:
            NotFoundError: there is no such role.
            ValidationError: it would have ended by now.
        """
        check_expiry(expires_at, work.now)
        stream_id = None if stream is None else stream.id
        found = work.roles.get_one_by_name(role)
        self._changes.of_user(work, user.id)
        grant = work.role_grants.put(
            user.id,
            found.id,
            stream_id,
            granted_by=_actor(granted_by),
            expires_at=expires_at,
        )
        data = _facts(role, stream_id) | {
            "expires_at": None if expires_at is None else expires_at.isoformat(),
            "granted_by": grant.granted_by,
        }
        self._journal.user(work, user.id, "RoleGranted", data)
        return grant

    def revoke_grant(
        self, work: UnitOfWork, user: User, role: str, *, stream: Stream | None = None
    ) -> AccessChange:
        """Take a role from an account that was given it everywhere, or on this stream.

        Returns:
            When it is gone everywhere.

        Raises:
            NotFoundError: there is no such role, or the account was not given it there.
        """
        stream_id = None if stream is None else stream.id
        found = work.role_grants.find(user.id, work.roles.get_one_by_name(role).id, stream_id)
        if found is None or not work.role_grants.remove(found.id):
            where = "everywhere" if stream_id is None else f"on stream {stream_id}"
            raise NotFoundError("grant", f"{role} {where} of user {user.id}")
        change = self._changes.of_user(work, user.id)
        self._journal.user(work, user.id, "RoleRevoked", _facts(role, stream_id))
        return change

    def delete_expired(self, work: UnitOfWork, *, limit: int = 1000) -> int:
        """Delete one batch of grants that have expired; return how many.

        Call it again, in a transaction of its own each time, until it returns 0.
        """
        return work.role_grants.delete_expired(work.now, limit=limit)


def _actor(granted_by: User | None) -> int | None:
    if granted_by is not None:
        return granted_by.id
    context = current_audit_context()
    return None if context is None else context.user_id


def _facts(role: str, stream_id: int | None) -> dict[str, Any]:
    return {"role": role, "stream_id": stream_id}
