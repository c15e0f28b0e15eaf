"""Settings of second factors: codes, lockout, trusted devices."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from rootstream_db.settings.section import Duration, Section

_MIN = timedelta(minutes=1)
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)


def _split(value: object) -> object:
    """Take a list in one string apart."""
    return value.replace(",", " ").split() if isinstance(value, str) else value


class MfaSettings(Section):
    """Authenticator apps, backup codes and what wrong ones cost."""

    required: bool = Field(default=False, description="Every account owes a second factor.")
    issuer: str = Field(
        default="RootStream", min_length=1, max_length=64, description="Our name in people's apps."
    )
    algorithm: Literal["SHA1", "SHA256", "SHA512"] = Field(
        default="SHA1", description="Hash of new apps' codes; many apps know only SHA1."
    )
    digits: int = Field(default=6, ge=6, le=8, description="Length of new apps' codes.")
    window: int = Field(
        default=1, ge=0, le=2, description="Steps of 30 s a code may be early or late."
    )
    drift: int = Field(
        default=2, ge=0, le=4, description="Steps that a device's slow or fast clock is followed."
    )
    enrollment_ttl: Duration = Field(
        default=10 * _MIN, ge=_MIN, description="Time to finish an enrolment."
    )
    max_factors: int = Field(default=10, ge=1, le=100, description="Factors of one account.")
    free_attempts: int = Field(default=5, ge=1, description="Wrong codes before a lockout.")
    lockout_base: Duration = Field(default=30 * _SECOND, ge=_SECOND, description="First lockout.")
    lockout_max: Duration = Field(default=_HOUR, ge=_SECOND, description="Longest lockout.")
    # NIST SP 800-63B allows no more than 100 failures in a row for one account.
    disable_after: int = Field(
        default=100, ge=1, description="Wrong codes in a row that disable a method."
    )
    backup_code_hash: Literal["compact", "cheapest-for-tests"] = Field(
        default="compact", description="Cost of a backup code's hash (Argon2id)."
    )
    trusted_device_ttl: Duration = Field(
        default=30 * _DAY, ge=_HOUR, description="How long a device stays trusted."
    )
    max_trusted_devices: int = Field(
        default=20, ge=1, le=1000, description="Trusted devices of one account."
    )
    passkey_rp_id: str | None = Field(
        default=None, description="Domain that passkeys are made for, such as example.com."
    )
    passkey_origins: Annotated[tuple[str, ...], BeforeValidator(_split)] = Field(
        default=(), description="Pages that may use them: https://example.com https://…"
    )
    challenge_ttl: Duration = Field(
        default=5 * _MIN, ge=10 * _SECOND, description="Time to answer with a passkey."
    )
