"""Where API keys are found."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import or_, select, update

from rootstream_db.errors import NotFoundError
from rootstream_db.models.access import ApiKey
from rootstream_db.repositories.base import Repository


class ApiKeyRepository(Repository[ApiKey]):
    """API keys, found by the digest of the secret."""

    model = ApiKey

    def get_by_hash(self, key_hash: bytes) -> ApiKey | None:
        """Return the key with that digest as it is now, whatever its state, or None."""
        query = select(ApiKey).where(ApiKey.key_hash == key_hash)
        return self.session.scalar(query.execution_options(populate_existing=True))

    def list_of_user(self, user_id: int) -> Sequence[ApiKey]:
        """Return the account's keys, ended ones included, in the order they were made."""
        query = select(ApiKey).where(ApiKey.user_id == user_id).order_by(ApiKey.id)
        return self.session.scalars(query).all()

    def lock(self, key_id: int) -> ApiKey:
        """Return the key as it is now and keep others from changing it until the unit ends.

        Raises:
            NotFoundError: there is none.
        """
        query = select(ApiKey).where(ApiKey.id == key_id).with_for_update(key_share=True)
        key = self.session.scalar(query.execution_options(populate_existing=True))
        if key is None:
            raise NotFoundError(ApiKey.__name__, key_id)
        return key

    def record_use(self, key_id: int, now: datetime, *, unless_since: datetime) -> bool:
        """Record a use of the key, unless one was recorded lately; return whether it was."""
        query = (
            update(ApiKey)
            .where(
                ApiKey.id == key_id,
                or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at <= unless_since),
            )
            .values(last_used_at=now)
            .returning(ApiKey.id)
            .execution_options(synchronize_session=False)
        )
        return self.session.scalar(query) is not None
