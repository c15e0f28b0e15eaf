"""What second factors look like from outside."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime

from rootstream_db.models.mfa import FactorKind, MfaAttemptMethod, MfaFactor, TrustedDevice
from rootstream_db.security.tokens import SecretText


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrollment:
    """An authenticator app that is to be confirmed with a code of it.

    Attributes:
        id: what ``confirm`` is told.
        label: the name of the device.
        secret: what to type into the app where its camera does not work; shown this once.
        uri: what the QR code holds.
        expires_at: until when it can be confirmed.
    """

    id: uuid.UUID
    label: str
    secret: SecretText = field(repr=False)
    uri: SecretText = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """A second factor that can be used."""

    id: uuid.UUID
    user_id: int
    kind: FactorKind
    label: str
    confirmed_at: datetime
    last_used_at: datetime | None

    @classmethod
    def of(cls, row: MfaFactor) -> Factor:
        """Return what a confirmed row says."""
        return cls(
            id=row.id,
            user_id=row.user_id,
            kind=row.kind,
            label=row.label,
            confirmed_at=row.confirmed_at or row.created_at,
            last_used_at=row.last_used_at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device that needs no second factor for a while."""

    id: int
    user_id: int
    label: str
    last_used_at: datetime
    expires_at: datetime

    @classmethod
    def of(cls, row: TrustedDevice) -> Device:
        """Return what a row says."""
        return cls(
            id=row.id,
            user_id=row.user_id,
            label=row.label,
            last_used_at=row.last_used_at,
            expires_at=row.expires_at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedDevice:
    """A device that was just trusted.

    Attributes:
        device: what is known of it.
        token: what it shows from now on instead of a second factor; shown this once.
    """

    device: Device
    token: SecretText


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceremony:
    """What a browser is to ask a passkey.

    Attributes:
        id: what the answer is finished with.
        options: JSON for ``navigator.credentials.create()`` or ``.get()``.
        expires_at: until when the answer is taken.
    """

    id: uuid.UUID
    options: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MfaStatus:
    """How an account stands with its second factors.

    Attributes:
        enabled: it has a factor, so a login owes one.
        required: a login owes a factor, by its owner's choice or by the settings'.
        factors: what can be used.
        backup_codes_left: unused backup codes.
        locked_until: the methods that are locked for a while.
        disabled: the methods that failed too often in a row and wait for an operator.
    """

    enabled: bool
    required: bool
    factors: tuple[Factor, ...]
    backup_codes_left: int
    locked_until: dict[MfaAttemptMethod, datetime]
    disabled: tuple[MfaAttemptMethod, ...]
