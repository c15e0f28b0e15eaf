"""Viewers: who watches now, and what they add up to, written behind to PostgreSQL."""

from __future__ import annotations

from rootstream_db.services.viewers.manager import ViewerManager
from rootstream_db.services.viewers.values import FlushResult, Heartbeat

__all__ = ["FlushResult", "Heartbeat", "ViewerManager"]
