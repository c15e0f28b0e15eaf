"""What a person has proved of who they are: the assurance level of a session."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum


class AssuranceLevel(IntEnum):
    """How sure a session is of its user (NIST SP 800-63B: AAL)."""

    NONE = 0
    """Nothing holds any more: the user has to log in again."""
    PASSWORD = 1
    """One factor."""
    MFA = 2
    """Two factors."""
    PHISHING_RESISTANT = 3
    """Two factors, one of them bound to the origin: a passkey."""


class MfaMethod(StrEnum):
    """The second factor that was checked; the values are those of RFC 8176 where it has one."""

    TOTP = "otp"
    BACKUP_CODE = "kba"
    PASSKEY = "hwk"
    TRUSTED_DEVICE = "device"


@dataclass(frozen=True, slots=True)
class MfaProof:
    """A second factor that was checked and is spent: what ``rs.mfa`` hands to ``rs.sessions``.

    Attributes:
        user_id: whose factor it was.
        method: what was checked.
        level: what it raises a session to.
        verified_at: when it was checked.
    """

    user_id: int
    method: MfaMethod
    level: AssuranceLevel
    verified_at: datetime
