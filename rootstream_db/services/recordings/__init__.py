"""Recordings: files that broadcasts left behind, described by what is read from them."""

from __future__ import annotations

from rootstream_db.services.recordings.folder import RecordedFile
from rootstream_db.services.recordings.manager import RecordingManager

__all__ = ["RecordedFile", "RecordingManager"]
