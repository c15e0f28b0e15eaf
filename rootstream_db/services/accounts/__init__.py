"""Accounts: registration, login, one-time tokens, profile."""

from __future__ import annotations

from rootstream_db.services.accounts.manager import UNCHANGED, AccountManager, Unchanged

__all__ = ["UNCHANGED", "AccountManager", "Unchanged"]
