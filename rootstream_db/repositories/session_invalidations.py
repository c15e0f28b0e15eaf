"""Sessions that ended while Redis could not be told."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import delete, insert, select

from rootstream_db.models.sessions import SessionInvalidation
from rootstream_db.repositories.base import Repository


class SessionInvalidationRepository(Repository[SessionInvalidation]):
    """The outbox of invalidations: written with what ended the sessions, emptied by anybody."""

    model = SessionInvalidation

    def put(self, token_hashes: Collection[bytes], *, rotated: bool) -> None:
        """Write down what Redis has to be told."""
        rows = [{"token_hash": one, "rotated": rotated} for one in token_hashes]
        if rows:
            self.session.execute(insert(SessionInvalidation), rows)

    def take(self, *, limit: int = 500) -> Sequence[SessionInvalidation]:
        """Take the oldest out; they are back if the unit is rolled back.

        What another unit is taking is left to it.
        """
        batch = (
            select(SessionInvalidation.id)
            .order_by(SessionInvalidation.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        query = (
            delete(SessionInvalidation)
            .where(SessionInvalidation.id.in_(batch))
            .returning(SessionInvalidation)
        )
        return self.session.scalars(query).all()
