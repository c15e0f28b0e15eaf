"""Security events: what happened, what it amounts to, and what follows."""

from __future__ import annotations

from rootstream_db.services.security_events.changes import ChangeMonitor
from rootstream_db.services.security_events.logins import LoginMonitor
from rootstream_db.services.security_events.monitor import SecurityMonitor
from rootstream_db.services.security_events.values import (
    Finding,
    GeoPoint,
    GeoResolver,
    Report,
    network_of,
)

__all__ = [
    "ChangeMonitor",
    "Finding",
    "GeoPoint",
    "GeoResolver",
    "LoginMonitor",
    "Report",
    "SecurityMonitor",
    "network_of",
]
