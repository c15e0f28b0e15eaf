"""What the event log says about access: every change, in the transaction of the change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rootstream_db.models import Role
    from rootstream_db.services.event_store import EventStore
    from rootstream_db.unit_of_work import UnitOfWork

ROLE_AGGREGATE: Final = "AccessRole"
"""Aggregate type of the events of roles; the aggregate's id is the role's."""

USER_AGGREGATE: Final = "User"
"""Grants, keys and identities are events of the account."""


class AccessJournal:
    """Appends the events of access; they never hold keys or e-mail addresses."""

    def __init__(self, events: EventStore) -> None:
        self._events = events

    def role(self, work: UnitOfWork, role: Role, event: str, data: dict[str, Any]) -> None:
        """Append an event of a role."""
        facts = {"name": role.name, **data}
        self._events.append(work, ROLE_AGGREGATE, str(role.id), event, facts)

    def user(self, work: UnitOfWork, user_id: int, event: str, data: dict[str, Any]) -> None:
        """Append an event of an account."""
        self._events.append(work, USER_AGGREGATE, str(user_id), event, data, user_id=user_id)
