"""Where second factors, backup codes and attempts are found, and how a code is spent once."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, delete, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from rootstream_db.models.mfa import (
    FactorKind,
    MfaAttempt,
    MfaAttemptMethod,
    MfaFactor,
    MfaOutcome,
    MfaThrottle,
    RecoveryCode,
)
from rootstream_db.models.sessions import AuthState
from rootstream_db.repositories.base import Repository

_GENERATION: Final = select(AuthState.generation).scalar_subquery()
"""The generation of now; a restore begins a new one."""


class MfaFactorRepository(Repository[MfaFactor]):
    """Authenticator apps and passkeys, confirmed ones and enrolments under way."""

    model = MfaFactor

    def find(self, factor_id: uuid.UUID) -> MfaFactor | None:
        """Return the factor or enrolment as it is now, or None."""
        query = select(MfaFactor).where(MfaFactor.id == factor_id)
        return self.session.scalar(query.execution_options(populate_existing=True))

    def list_by_user(self, user_id: int) -> Sequence[MfaFactor]:
        """Return everything of an account as it is now, oldest first, enrolments included."""
        query = select(MfaFactor).where(MfaFactor.user_id == user_id)
        query = query.order_by(MfaFactor.created_at, MfaFactor.id)
        return self.session.scalars(query.execution_options(populate_existing=True)).all()

    def list_confirmed(self, user_id: int, kind: FactorKind) -> Sequence[MfaFactor]:
        """Return the account's factors of a kind that can be used, as they are now."""
        query = (
            select(MfaFactor)
            .where(
                MfaFactor.user_id == user_id,
                MfaFactor.kind == kind,
                MfaFactor.confirmed_at.is_not(None),
            )
            .order_by(MfaFactor.created_at, MfaFactor.id)
            .execution_options(populate_existing=True)
        )
        return self.session.scalars(query).all()

    def find_credential(self, credential_id: bytes) -> MfaFactor | None:
        """Return the passkey with that credential id as it is now, or None."""
        query = select(MfaFactor).where(MfaFactor.credential_id == credential_id)
        return self.session.scalar(query.execution_options(populate_existing=True))

    def has_confirmed(self, user_id: int) -> bool:
        """Whether the account has a factor that can be used."""
        query = select(MfaFactor.id).where(
            MfaFactor.user_id == user_id, MfaFactor.confirmed_at.is_not(None)
        )
        return self.session.scalar(query.limit(1)) is not None

    def confirm(
        self, factor_id: uuid.UUID, *, step: int, drift: int, now: datetime
    ) -> MfaFactor | None:
        """Finish an enrolment and spend the code it was finished with; None if it is over.

        One statement compares and writes: of any number of callers one finishes it.
        """
        return self._advance(
            MfaFactor.id == factor_id,
            MfaFactor.confirmed_at.is_(None),
            MfaFactor.enrollment_expires_at > now,
            values={
                "confirmed_at": now,
                "enrollment_expires_at": None,
                "enrollment_epoch": None,
                "last_used_step": step,
                "drift_steps": drift,
                "last_used_at": now,
            },
        )

    def spend_step(
        self, factor_id: uuid.UUID, *, user_id: int, step: int, drift: int, now: datetime
    ) -> MfaFactor | None:
        """Spend the code of a time step; None if it, or a newer one, is spent already.

        One statement compares and writes: of any number of callers one gets the step. A caller
        that waited for another one's transaction sees what that one wrote.
        """
        return self._advance(
            MfaFactor.id == factor_id,
            MfaFactor.user_id == user_id,
            MfaFactor.confirmed_at.is_not(None),
            MfaFactor.last_used_step < step,
            values={"last_used_step": step, "drift_steps": drift, "last_used_at": now},
        )

    def advance_sign_count(
        self, factor_id: uuid.UUID, *, user_id: int, count: int, backed_up: bool, now: datetime
    ) -> MfaFactor | None:
        """Record a use of a passkey; None if its counter did not rise since the last one.

        Passkeys that are kept in step on several devices count nothing and always say 0.
        """
        return self._advance(
            MfaFactor.id == factor_id,
            MfaFactor.user_id == user_id,
            MfaFactor.sign_count < count if count else MfaFactor.sign_count == 0,
            values={"sign_count": count, "backed_up": backed_up, "last_used_at": now},
        )

    def delete_pending(self, user_id: int, label: str, *, now: datetime) -> None:
        """Delete the account's enrolments of that label, and those that ran out."""
        self.session.execute(
            delete(MfaFactor).where(
                MfaFactor.user_id == user_id,
                MfaFactor.confirmed_at.is_(None),
                or_(MfaFactor.label == label, MfaFactor.enrollment_expires_at <= now),
            )
        )

    def delete_of_user(self, user_id: int) -> int:
        """Delete everything of an account; return how many factors could be used."""
        query = delete(MfaFactor).where(MfaFactor.user_id == user_id)
        confirmed = self.session.scalars(query.returning(MfaFactor.confirmed_at)).all()
        return sum(moment is not None for moment in confirmed)

    def delete_expired(self, before: datetime, *, limit: int = 1000) -> int:
        """Delete at most ``limit`` enrolments that ran out before a time; return how many."""
        batch = (
            select(MfaFactor.id)
            .where(MfaFactor.confirmed_at.is_(None), MfaFactor.enrollment_expires_at < before)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        query = delete(MfaFactor).where(MfaFactor.id.in_(batch)).returning(MfaFactor.id)
        return len(self.session.scalars(query).all())

    def _advance(
        self, *conditions: ColumnElement[bool], values: Mapping[str, Any]
    ) -> MfaFactor | None:
        query = update(MfaFactor).where(*conditions).values(**values).returning(MfaFactor)
        return self.session.scalar(query.execution_options(populate_existing=True))


class RecoveryCodeRepository(Repository[RecoveryCode]):
    """Backup codes, found by account and slot."""

    model = RecoveryCode

    def list_by_user(self, user_id: int) -> Sequence[RecoveryCode]:
        """Return the account's codes of this generation as they are now, used or not."""
        query = select(RecoveryCode).where(
            RecoveryCode.user_id == user_id, RecoveryCode.generation == _GENERATION
        )
        return self.session.scalars(query.execution_options(populate_existing=True)).all()

    def spend(self, code_id: int, *, now: datetime) -> RecoveryCode | None:
        """Use the code up; None if somebody did before, or if it is gone.

        One statement compares and writes: of any number of callers one gets the code.
        """
        query = (
            update(RecoveryCode)
            .where(RecoveryCode.id == code_id, RecoveryCode.used_at.is_(None))
            .values(used_at=now)
            .returning(RecoveryCode)
            .execution_options(populate_existing=True)
        )
        return self.session.scalar(query)

    def replace(self, user_id: int, hashes: Mapping[str, bytes], *, key_id: int) -> None:
        """Put new codes, sealed hashes by slot, in the place of all earlier ones."""
        self.delete_of_user(user_id)
        rows = [
            {
                "user_id": user_id,
                "slot": slot,
                "code_hash": code_hash,
                "code_hash_key_id": key_id,
                "generation": _GENERATION,
            }
            for slot, code_hash in hashes.items()
        ]
        self.session.execute(insert(RecoveryCode).values(rows))

    def delete_of_user(self, user_id: int) -> None:
        """Delete the account's codes."""
        self.session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))

    def count_unused(self, user_id: int) -> int:
        """Return how many codes the account has left."""
        query = select(func.count(RecoveryCode.id)).where(
            RecoveryCode.user_id == user_id,
            RecoveryCode.used_at.is_(None),
            RecoveryCode.generation == _GENERATION,
        )
        return self.session.scalar(query) or 0


class MfaAttemptRepository:
    """What was tried; rows are added and read, never changed."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def add(
        self,
        user_id: int,
        method: MfaAttemptMethod,
        outcome: MfaOutcome,
        *,
        factor_id: uuid.UUID | None,
        ip_address: str | None,
        now: datetime,
    ) -> None:
        """Write down one attempt."""
        row = {
            "attempted_at": now,
            "user_id": user_id,
            "method": method,
            "outcome": outcome,
            "factor_id": factor_id,
            "ip_address": ip_address,
        }
        self.session.execute(insert(MfaAttempt).values(row))

    def list_by_user(self, user_id: int, *, limit: int = 100) -> Sequence[MfaAttempt]:
        """Return the account's latest attempts, newest first."""
        query = (
            select(MfaAttempt)
            .where(MfaAttempt.user_id == user_id)
            .order_by(MfaAttempt.attempted_at.desc())
            .limit(limit)
        )
        return self.session.scalars(query).all()


class MfaThrottleRepository(Repository[MfaThrottle]):
    """Attempts in a row that did not succeed."""

    model = MfaThrottle

    def reserve(
        self, user_id: int, method: MfaAttemptMethod, *, now: datetime, limit: int
    ) -> int | None:
        """Count one more attempt and return the count.

        None while the method is locked, and for good once ``limit`` is reached. One statement
        compares and counts, so parallel attempts get different numbers; they wait for one another
        until the transaction ends, so each one meets the lock that the one before it set.
        """
        query = (
            upsert(MfaThrottle)
            .values(user_id=user_id, method=method, failures=1, last_attempt_at=now)
            .on_conflict_do_update(
                index_elements=[MfaThrottle.user_id, MfaThrottle.method],
                set_={"failures": MfaThrottle.failures + 1, "last_attempt_at": now},
                where=and_(
                    MfaThrottle.failures < limit,
                    or_(MfaThrottle.locked_until.is_(None), MfaThrottle.locked_until <= now),
                ),
            )
            .returning(MfaThrottle.failures)
        )
        return self.session.scalar(query)

    def lock(self, user_id: int, method: MfaAttemptMethod, until: datetime) -> None:
        """Refuse attempts at a method until a time."""
        query = update(MfaThrottle).where(
            MfaThrottle.user_id == user_id, MfaThrottle.method == method
        )
        self.session.execute(query.values(locked_until=until))

    def find(self, user_id: int, method: MfaAttemptMethod) -> MfaThrottle | None:
        """Return how a method stands as of now, or None if nothing failed."""
        query = select(MfaThrottle).where(
            MfaThrottle.user_id == user_id, MfaThrottle.method == method
        )
        return self.session.scalar(query.execution_options(populate_existing=True))

    def list_by_user(self, user_id: int) -> Sequence[MfaThrottle]:
        """Return how the account's methods stand, those with failures."""
        query = select(MfaThrottle).where(MfaThrottle.user_id == user_id)
        return self.session.scalars(query.execution_options(populate_existing=True)).all()

    def clear(self, user_id: int, methods: Iterable[MfaAttemptMethod]) -> None:
        """Forget the failures of these methods and open them."""
        self.session.execute(
            delete(MfaThrottle).where(
                MfaThrottle.user_id == user_id, MfaThrottle.method.in_(sorted(methods))
            )
        )
