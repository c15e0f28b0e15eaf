"""Second factors: authenticator apps, backup codes, and what guessing costs."""

from __future__ import annotations

from rootstream_db.services.mfa.manager import MfaManager
from rootstream_db.services.mfa.values import Device, Enrollment, Factor, IssuedDevice, MfaStatus

__all__ = ["Device", "Enrollment", "Factor", "IssuedDevice", "MfaManager", "MfaStatus"]
