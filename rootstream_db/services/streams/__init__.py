"""Streams, their keys and their live leases."""

from __future__ import annotations

from rootstream_db.services.streams.manager import StreamManager
from rootstream_db.services.streams.values import Lease, LiveState, LiveStatus, ReapResult

__all__ = ["Lease", "LiveState", "LiveStatus", "ReapResult", "StreamManager"]
