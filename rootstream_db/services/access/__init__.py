"""Who may do what: roles, grants, permissions."""

from __future__ import annotations

from rootstream_db.services.access.changes import AccessChange
from rootstream_db.services.access.fence import FencedCache
from rootstream_db.services.access.manager import AccessManager, ActsForUser, Subject

__all__ = ["AccessChange", "AccessManager", "ActsForUser", "FencedCache", "Subject"]
