"""What follows when somebody's factors change: other sessions end, and it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rootstream_db.models.sessions import RevokeReason
from rootstream_db.services.accounts.journal import AccountJournal

if TYPE_CHECKING:
    from rootstream_db.models import MfaFactor, User
    from rootstream_db.services.event_store import EventStore
    from rootstream_db.services.sessions import SessionManager
    from rootstream_db.unit_of_work import UnitOfWork

NOTICE: Final = "SecurityNoticeDue"
"""The event that asks for a message to the owner of the account; ``about`` names the reason."""


class FactorChanges:
    """Records changes of an account's factors, in the transaction that makes them."""

    def __init__(self, events: EventStore, sessions: SessionManager) -> None:
        self._journal = AccountJournal(events)
        self._sessions = sessions

    def record(
        self,
        work: UnitOfWork,
        account: User,
        event: str,
        data: dict[str, Any],
        *,
        label: str | None = None,
    ) -> None:
        """Append an event, and the one that has the account's owner told.

        Somebody who changed the factors of an account that is not theirs cannot keep its owner
        from hearing of it: the notice is part of the same transaction.
        """
        # What somebody called their phone is about them, and erased with them.
        personal = None if label is None else {"label": label}
        self._journal.record(work, account, event, data, personal=personal)
        self._journal.record(work, account, NOTICE, {"about": event})

    def end_sessions(self, work: UnitOfWork, account: User, *, keep: int | None = None) -> None:
        """End the account's sessions but one: who had the old factors may be in one of them."""
        self._sessions.revoke_all_for_user(
            work, account.id, reason=RevokeReason.MFA, except_session=keep
        )

    def added(
        self, work: UnitOfWork, account: User, factor: MfaFactor, *, keep: int | None
    ) -> None:
        """Record a new factor of a locked account; its sessions end, all or all but one."""
        self.end_sessions(work, account, keep=keep)
        self.record(work, account, "MfaFactorAdded", _facts(factor), label=factor.label)

    def removed(
        self, work: UnitOfWork, account: User, factor: MfaFactor, *, keep: int | None
    ) -> None:
        """Record that a factor is gone; the account's sessions end, all or all but one."""
        self.end_sessions(work, account, keep=keep)
        self.record(work, account, "MfaFactorRemoved", _facts(factor), label=factor.label)


def _facts(factor: MfaFactor) -> dict[str, str]:
    return {"factor_id": str(factor.id), "kind": factor.kind.value}
