"""What media servers call: nginx-rtmp, MediaMTX and SRS, unmodified, by their own hooks."""

from __future__ import annotations

from rootstream_db.services.ingest.authorizer import IngestAuthorizer
from rootstream_db.services.ingest.missed import MissedRecordings
from rootstream_db.services.ingest.requests import Decision, HookEvent, IngestRequest
from rootstream_db.services.ingest.server import IngestServer
from rootstream_db.services.ingest.wsgi import IngestApplication

__all__ = [
    "Decision",
    "HookEvent",
    "IngestApplication",
    "IngestAuthorizer",
    "IngestRequest",
    "IngestServer",
    "MissedRecordings",
]
