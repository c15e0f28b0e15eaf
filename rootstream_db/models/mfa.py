"""Second factors: authenticator apps, passkeys, backup codes, and what was tried against them."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, INET
from sqlalchemy.orm import Mapped, mapped_column

from rootstream_db.models.base import SHA256_BYTES, Base, choice, created_time, identity_key
from rootstream_db.security.totp import TotpAlgorithm

CHALLENGE_BYTES = 32
"""Random bytes of a passkey's challenge; WebAuthn asks for at least 16."""

MAX_LABEL = 64
"""Longest name of a device."""


class FactorKind(StrEnum):
    """What somebody holds."""

    TOTP = "totp"
    PASSKEY = "passkey"


class MfaAttemptMethod(StrEnum):
    """What an attempt was made against; each one is counted by itself."""

    ENROLLMENT = "enrollment"
    TOTP = "totp"
    BACKUP_CODE = "backup_code"
    PASSKEY = "passkey"
    TRUSTED_DEVICE = "trusted_device"


class MfaOutcome(StrEnum):
    """What became of an attempt."""

    ACCEPTED = "accepted"
    WRONG = "wrong"
    REUSED = "reused"
    CLOCK_SKEW = "clock_skew"
    EXPIRED = "expired"
    THROTTLED = "throttled"
    DISABLED = "disabled"


class MfaFactor(Base):
    """An authenticator app or a passkey of an account; an enrolment until it is confirmed.

    ``secret`` and ``public_key`` are sealed: who can only write to the table plants neither. An
    enrolment is finished within the epoch of its account that it was begun in: whoever was thrown
    out meanwhile does not get back in by it. ``last_used_step`` only rises: a code of that step or
    an older one is spent. ``drift_steps`` is how far the device's clock was off when it was last
    used.
    """

    __tablename__ = "user_mfa"
    __table_args__ = (
        CheckConstraint(
            "kind <> 'totp' OR"
            " num_nulls(secret, secret_key_id, algorithm, digits, period_seconds) = 0",
            name="totp_complete",
        ),
        CheckConstraint(
            "kind <> 'passkey' OR"
            " num_nulls(credential_id, public_key, public_key_key_id, confirmed_at) = 0",
            name="passkey_complete",
        ),
        CheckConstraint(
            "confirmed_at IS NOT NULL OR num_nulls(enrollment_expires_at, enrollment_epoch) = 0",
            name="pending_expires",
        ),
        UniqueConstraint("user_id", "label"),
        Index(
            "ix_user_mfa_enrollment_expires_at",
            "enrollment_expires_at",
            postgresql_where=text("confirmed_at IS NULL"),
        ),
        {"postgresql_with": {"fillfactor": 80}},
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    kind: Mapped[FactorKind] = mapped_column(choice(FactorKind, "kind"))
    label: Mapped[str] = mapped_column(String(MAX_LABEL))
    created_at: Mapped[created_time] = mapped_column(init=False)
    enrollment_expires_at: Mapped[datetime | None] = mapped_column(default=None)
    enrollment_epoch: Mapped[int | None] = mapped_column(default=None)
    confirmed_at: Mapped[datetime | None] = mapped_column(default=None)
    last_used_at: Mapped[datetime | None] = mapped_column(default=None)
    secret: Mapped[bytes | None] = mapped_column(default=None)
    secret_key_id: Mapped[int | None] = mapped_column(SmallInteger, default=None)
    algorithm: Mapped[TotpAlgorithm | None] = mapped_column(
        choice(TotpAlgorithm, "algorithm"), default=None
    )
    digits: Mapped[int | None] = mapped_column(SmallInteger, default=None)
    period_seconds: Mapped[int | None] = mapped_column(SmallInteger, default=None)
    last_used_step: Mapped[int] = mapped_column(default=-1, server_default=text("-1"))
    drift_steps: Mapped[int] = mapped_column(SmallInteger, default=0, server_default=text("0"))
    credential_id: Mapped[bytes | None] = mapped_column(default=None, unique=True)
    public_key: Mapped[bytes | None] = mapped_column(default=None)
    public_key_key_id: Mapped[int | None] = mapped_column(SmallInteger, default=None)
    sign_count: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    transports: Mapped[list[str] | None] = mapped_column(ARRAY(String(20)), default=None)
    aaguid: Mapped[uuid.UUID | None] = mapped_column(default=None)
    backup_eligible: Mapped[bool | None] = mapped_column(default=None)
    backed_up: Mapped[bool | None] = mapped_column(default=None)

    @property
    def is_confirmed(self) -> bool:
        """Whether the enrolment was finished."""
        return self.confirmed_at is not None

    def is_pending(self, now: datetime) -> bool:
        """Whether the enrolment can still be finished."""
        expires_at = self.enrollment_expires_at
        return not self.is_confirmed and expires_at is not None and now < expires_at


class RecoveryCode(Base):
    """A backup code; only its hash is stored, sealed. ``slot`` is the letter it starts with.

    It is good within the generation it was made in: after a restore nobody knows which of the older
    ones were used.
    """

    __tablename__ = "mfa_recovery_codes"
    __table_args__ = (UniqueConstraint("user_id", "slot"),)

    id: Mapped[identity_key] = mapped_column(init=False)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    slot: Mapped[str] = mapped_column(String(1))
    code_hash: Mapped[bytes]
    code_hash_key_id: Mapped[int] = mapped_column(SmallInteger)
    generation: Mapped[int]
    created_at: Mapped[created_time] = mapped_column(init=False)
    used_at: Mapped[datetime | None] = mapped_column(default=None)


class TrustedDevice(Base):
    """A device that needs no second factor for a while; only the digest of its token is stored.

    It is trusted within the epoch of its account and the generation it was trusted in.
    """

    __tablename__ = "trusted_devices"
    __table_args__ = (
        CheckConstraint(f"octet_length(token_hash) = {SHA256_BYTES}", name="token_hash_length"),
        Index("ix_trusted_devices_expires_at", "expires_at"),
    )

    id: Mapped[identity_key] = mapped_column(init=False)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    label: Mapped[str] = mapped_column(String(MAX_LABEL))
    auth_epoch: Mapped[int]
    generation: Mapped[int]
    created_at: Mapped[created_time] = mapped_column(init=False)
    last_used_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class ChallengePurpose(StrEnum):
    """What a passkey is asked to sign a challenge for."""

    REGISTRATION = "registration"
    AUTHENTICATION = "authentication"


class PasskeyChallenge(Base):
    """What a passkey is to sign, once; without ``user_id`` it asks who is there.

    A new passkey is taken within the epoch of its account that it was asked for in.
    """

    __tablename__ = "passkey_challenges"
    __table_args__ = (
        CheckConstraint(f"octet_length(challenge) = {CHALLENGE_BYTES}", name="challenge_length"),
        CheckConstraint(
            "purpose <> 'registration' OR num_nulls(user_id, label, auth_epoch) = 0",
            name="registration_complete",
        ),
        Index("ix_passkey_challenges_expires_at", "expires_at"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    purpose: Mapped[ChallengePurpose] = mapped_column(choice(ChallengePurpose, "purpose"))
    challenge: Mapped[bytes]
    label: Mapped[str | None] = mapped_column(String(MAX_LABEL), default=None)
    auth_epoch: Mapped[int | None] = mapped_column(default=None)
    expires_at: Mapped[datetime]


class MfaAttempt(Base):
    """One attempt at a second factor, never the code; written once, partitioned by month."""

    __tablename__ = "mfa_attempts"
    __table_args__ = (
        PrimaryKeyConstraint("attempted_at", "id"),
        Index("ix_mfa_attempts_user_id_attempted_at", "user_id", "attempted_at"),
        {"postgresql_partition_by": "RANGE (attempted_at)"},
    )

    id: Mapped[uuid.UUID] = mapped_column(server_default=func.gen_random_uuid(), init=False)
    attempted_at: Mapped[datetime]
    user_id: Mapped[int]
    method: Mapped[MfaAttemptMethod] = mapped_column(choice(MfaAttemptMethod, "method"))
    outcome: Mapped[MfaOutcome] = mapped_column(choice(MfaOutcome, "outcome"))
    factor_id: Mapped[uuid.UUID | None] = mapped_column(default=None)
    ip_address: Mapped[str | None] = mapped_column(INET, default=None)


class MfaThrottle(Base):
    """Attempts in a row that did not succeed, by account and method; a success deletes the row."""

    __tablename__ = "mfa_throttle"
    __table_args__ = (
        PrimaryKeyConstraint("user_id", "method"),
        CheckConstraint("failures > 0", name="failures_positive"),
        {"postgresql_with": {"fillfactor": 70}},
    )

    user_id: Mapped[int] = mapped_column(autoincrement=False)
    method: Mapped[MfaAttemptMethod] = mapped_column(choice(MfaAttemptMethod, "method"))
    failures: Mapped[int]
    last_attempt_at: Mapped[datetime]
    locked_until: Mapped[datetime | None] = mapped_column(default=None)

    def wait(self, now: datetime) -> timedelta:
        """Return how long the method stays locked; zero when it is open."""
        if self.locked_until is None:
            return timedelta(0)
        return max(self.locked_until - now, timedelta(0))
