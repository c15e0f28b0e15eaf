"""The activity feed: what a user did, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from rootstream_db.errors import ValidationError
from rootstream_db.models import ActivityEntry
from rootstream_db.repositories.events import RecordedEvent
from rootstream_db.services.projections.projection import Projection
from rootstream_db.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    from rootstream_db.database import Database

MAX_PAGE: Final = 1000
USER_DELETED: Final = "UserDeleted"


class ActivityProjection(Projection):
    """Enters every event that names a user into the user's feed; a deleted account has none."""

    name = "activity_feed"

    def apply_batch(self, work: UnitOfWork, events: Sequence[RecordedEvent]) -> None:
        """Enter the events; forget users who were deleted on the way."""
        entries: list[dict[str, Any]] = []
        deleted: set[int] = set()
        for event in events:
            if event.user_id is None:
                continue
            if event.event_type == USER_DELETED and event.aggregate_type == "User":
                gone = int(event.aggregate_id)
                deleted.add(gone)
                entries = [entry for entry in entries if entry["user_id"] != gone]
            else:
                entries.append(_entry(event, event.user_id))
        work.activity.delete_of_users(deleted)
        work.activity.add_all(entries)

    def reset(self, work: UnitOfWork) -> None:
        """Delete all feeds."""
        work.activity.clear()


class ActivityFeed:
    """Reads activity feeds, as far as their projection is.

    Args:
        database: where reads without a unit of work go.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def list_for_user(
        self,
        user_id: int,
        *,
        before_position: int | None = None,
        limit: int = 50,
        work: UnitOfWork | None = None,
    ) -> Sequence[ActivityEntry]:
        """Return a page of what a user did, newest first.

        Args:
            user_id: whose feed.
            before_position: the position of the last entry of the page before.
            limit: entries of a page.
            work: read inside this unit.

        Raises:
            ValidationError: the limit is not usable.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise ValidationError(f"limit lies between 1 and {MAX_PAGE}", field="limit")
        if work is not None:
            return work.activity.list_for_user(
                user_id, before_position=before_position, limit=limit
            )
        with self._database.read() as unit:
            return unit.activity.list_for_user(
                user_id, before_position=before_position, limit=limit
            )


def _entry(event: RecordedEvent, user_id: int) -> dict[str, Any]:
    return {
        "user_id": user_id,
        "position": event.position,
        "event_type": event.event_type,
        "subject": f"{event.aggregate_type}/{event.aggregate_id}",
        "occurred_at": event.occurred_at,
    }
