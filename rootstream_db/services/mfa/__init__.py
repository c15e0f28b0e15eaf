"""Second factors: authenticator apps, backup codes, and what guessing costs."""

from __future__ import annotations

from rootstream_db.services.mfa.manager import MfaManager
from rootstream_db.services.mfa.values import Enrollment, Factor, MfaStatus

__all__ = ["Enrollment", "Factor", "MfaManager", "MfaStatus"]
