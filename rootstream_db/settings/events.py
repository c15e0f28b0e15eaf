"""Settings of the event log: where its oldest part goes."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from rootstream_db.settings.section import Section


class EventSettings(Section):
    """The event log and its archive."""

    archive_directory: Path | None = Field(
        default=None,
        description="Files of archived events; one directory for one database, seen by every "
        "process that reads events.",
    )
    archive_file_events: int = Field(
        default=100_000, ge=1, le=10_000_000, description="Events of one archive file, about."
    )
