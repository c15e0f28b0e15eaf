"""Where the challenges of passkeys wait for their one answer."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import delete, select

from rootstream_db.models.mfa import PasskeyChallenge
from rootstream_db.repositories.base import Repository


class PasskeyChallengeRepository(Repository[PasskeyChallenge]):
    """Challenges under way."""

    model = PasskeyChallenge

    def take(self, challenge_id: uuid.UUID) -> PasskeyChallenge | None:
        """Delete a challenge and return it; of any number of callers one gets it."""
        query = delete(PasskeyChallenge).where(PasskeyChallenge.id == challenge_id)
        return self.session.scalar(query.returning(PasskeyChallenge))

    def delete_expired(self, before: datetime, *, limit: int = 1000) -> int:
        """Delete at most ``limit`` challenges that nobody answered in time; return how many."""
        batch = (
            select(PasskeyChallenge.id)
            .where(PasskeyChallenge.expires_at < before)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        query = delete(PasskeyChallenge).where(PasskeyChallenge.id.in_(batch))
        return len(self.session.scalars(query.returning(PasskeyChallenge.id)).all())
