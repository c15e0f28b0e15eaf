"""Old events in files: moved out of the database, read as if they had stayed."""

from __future__ import annotations

from rootstream_db.repositories.event_archives import Archive
from rootstream_db.services.event_archive.archiver import EventArchiver
from rootstream_db.services.event_archive.reader import ArchiveReader

__all__ = ["Archive", "ArchiveReader", "EventArchiver"]
