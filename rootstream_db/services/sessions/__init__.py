"""Login sessions: opened, validated at every request, ended everywhere at once."""

from __future__ import annotations

from rootstream_db.services.sessions.endings import TOPIC
from rootstream_db.services.sessions.info import IssuedSession, RevocationResult, SessionInfo
from rootstream_db.services.sessions.manager import SessionManager
from rootstream_db.services.sessions.opener import Client

__all__ = ["TOPIC", "Client", "IssuedSession", "RevocationResult", "SessionInfo", "SessionManager"]
