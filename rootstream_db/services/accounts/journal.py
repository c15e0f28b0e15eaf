"""What is told when an account changes: an event in the same transaction, a cache that forgets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rootstream_db.models.users import User

if TYPE_CHECKING:
    from rootstream_db.cache import RedisCache
    from rootstream_db.services.event_store import EventStore
    from rootstream_db.unit_of_work import UnitOfWork

AGGREGATE: Final = "User"
"""Aggregate type of the events of accounts; the aggregate's id is the account's."""


class AccountJournal:
    """Appends the events of accounts; they never hold passwords or tokens.

    What they say about a person is ``personal``: sealed with the account's own key, so that it can
    be erased.
    """

    def __init__(self, events: EventStore, cache: RedisCache | None = None) -> None:
        self._events = events
        self._cache = cache

    def record(
        self,
        work: UnitOfWork,
        user: User,
        event: str,
        data: dict[str, Any] | None = None,
        *,
        personal: dict[str, Any] | None = None,
    ) -> None:
        """Append an event of the account to the unit of work."""
        self._events.append(
            work,
            AGGREGATE,
            str(user.id),
            event,
            data or {},
            personal=personal,
            user_id=user.id,
            subject_id=user.public_id,
        )

    def record_profile(
        self,
        work: UnitOfWork,
        user: User,
        event: str,
        data: dict[str, Any] | None = None,
        *,
        personal: dict[str, Any] | None = None,
    ) -> None:
        """Append an event that changes what others see; a cached profile dies with the commit."""
        self.record(work, user, event, data, personal=personal)
        cache = self._cache
        if cache is not None:
            from rootstream_db.cache.keys import USER

            key = cache.key(USER, user_id=user.id)
            work.after_commit(lambda: cache.invalidate(key), name="forget cached profile")
