"""A person's data: a copy of all of it, and the end of all of it."""

from __future__ import annotations

from rootstream_db.repositories.subject_keys import Erasure
from rootstream_db.services.privacy.ledger import append_ledger, read_ledger
from rootstream_db.services.privacy.manager import ErasedUser, PrivacyManager

__all__ = ["ErasedUser", "Erasure", "PrivacyManager", "append_ledger", "read_ledger"]
