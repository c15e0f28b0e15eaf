"""Second factors: authenticator apps, passkeys, backup codes, and what guessing costs."""

from __future__ import annotations

from rootstream_db.services.mfa.manager import MfaManager
from rootstream_db.services.mfa.passkeys import PasskeyManager
from rootstream_db.services.mfa.values import (
    Ceremony,
    Device,
    Enrollment,
    Factor,
    IssuedDevice,
    MfaStatus,
)

__all__ = [
    "Ceremony",
    "Device",
    "Enrollment",
    "Factor",
    "IssuedDevice",
    "MfaManager",
    "MfaStatus",
    "PasskeyManager",
]
