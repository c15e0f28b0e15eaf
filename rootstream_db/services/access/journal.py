"""What the event log says about access: every change, in the transaction of the change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rootstream_db.services.accounts.journal import AccountJournal

if TYPE_CHECKING:
    from rootstream_db.models import Role
    from rootstream_db.services.event_store import EventStore
    from rootstream_db.unit_of_work import UnitOfWork

ROLE_AGGREGATE: Final = "AccessRole"
"""Aggregate type of the events of roles; the aggregate's id is the role's."""


class AccessJournal:
    """Appends the events of access; grants and keys are events of the account."""

    def __init__(self, events: EventStore) -> None:
        self._events = events
        self._accounts = AccountJournal(events)

    def role(self, work: UnitOfWork, role: Role, event: str, data: dict[str, Any]) -> None:
        """Append an event of a role."""
        facts = {"name": role.name, **data}
        self._events.append(work, ROLE_AGGREGATE, str(role.id), event, facts)

    def user(
        self,
        work: UnitOfWork,
        user_id: int,
        event: str,
        data: dict[str, Any],
        *,
        personal: dict[str, Any] | None = None,
    ) -> None:
        """Append an event of an account; what is ``personal`` can be erased."""
        account = work.users.get_one(user_id)
        self._accounts.record(work, account, event, data, personal=personal)
