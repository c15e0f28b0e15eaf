"""Where trusted devices are found, by account and by the digest of their token."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, delete, select, update

from rootstream_db.models.mfa import TrustedDevice
from rootstream_db.models.sessions import AuthState
from rootstream_db.models.users import User
from rootstream_db.repositories.base import Repository

_GENERATION: Final = select(AuthState.generation).scalar_subquery()


class TrustedDeviceRepository(Repository[TrustedDevice]):
    """Devices that need no second factor for a while."""

    model = TrustedDevice

    def current_generation(self) -> int:
        """Return the generation in which devices are trusted now."""
        return self.session.scalars(select(AuthState.generation)).one()

    def find_owner(self, token_hash: bytes, *, now: datetime) -> User | None:
        """Return whose trusted device has that digest, or None if it is not trusted (any more)."""
        query = select(User).join(TrustedDevice, TrustedDevice.user_id == User.id)
        query = query.where(TrustedDevice.token_hash == token_hash, *_trusted(now))
        return self.session.scalar(query.execution_options(populate_existing=True))

    def use(self, token_hash: bytes, *, user_id: int, now: datetime) -> TrustedDevice | None:
        """Record a use of the account's device; None if it is not trusted (any more)."""
        query = (
            update(TrustedDevice)
            .where(
                TrustedDevice.token_hash == token_hash,
                TrustedDevice.user_id == user_id,
                User.id == user_id,
                *_trusted(now),
            )
            .values(last_used_at=now)
            .returning(TrustedDevice)
            .execution_options(populate_existing=True)
        )
        return self.session.scalar(query)

    def list_by_user(self, user_id: int, *, now: datetime) -> Sequence[TrustedDevice]:
        """Return the account's trusted devices, the last used one first."""
        query = (
            select(TrustedDevice)
            .join(User, User.id == TrustedDevice.user_id)
            .where(TrustedDevice.user_id == user_id, *_trusted(now))
            .order_by(TrustedDevice.last_used_at.desc(), TrustedDevice.id.desc())
            .execution_options(populate_existing=True)
        )
        return self.session.scalars(query).all()

    def revoke(self, device_id: int, *, user_id: int) -> TrustedDevice | None:
        """Delete a device of the account and return it; None if there is none."""
        query = delete(TrustedDevice).where(
            TrustedDevice.id == device_id, TrustedDevice.user_id == user_id
        )
        return self.session.scalar(query.returning(TrustedDevice))

    def revoke_beyond(self, user_id: int, keep: int) -> int:
        """Delete all but the ``keep`` devices used last; return how many."""
        kept = (
            select(TrustedDevice.id)
            .where(TrustedDevice.user_id == user_id)
            .order_by(TrustedDevice.last_used_at.desc(), TrustedDevice.id.desc())
            .limit(keep)
        )
        query = delete(TrustedDevice).where(
            TrustedDevice.user_id == user_id, TrustedDevice.id.not_in(kept)
        )
        return len(self.session.scalars(query.returning(TrustedDevice.id)).all())

    def delete_expired(self, before: datetime, *, limit: int = 1000) -> int:
        """Delete at most ``limit`` devices whose time ran out before a moment; return how many."""
        batch = (
            select(TrustedDevice.id)
            .where(TrustedDevice.expires_at < before)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        query = delete(TrustedDevice).where(TrustedDevice.id.in_(batch))
        return len(self.session.scalars(query.returning(TrustedDevice.id)).all())


def _trusted(now: datetime) -> tuple[ColumnElement[bool], ...]:
    """Return what makes a device trusted, where the query has its account too."""
    return (
        TrustedDevice.expires_at > now,
        TrustedDevice.generation == _GENERATION,
        TrustedDevice.auth_epoch == User.auth_epoch,
        User.is_active.is_(True),
    )
