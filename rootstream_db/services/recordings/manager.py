"""The recording manager: adds files to broadcasts, deletes them when their time is up."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rootstream_db.clock import Clock, utc_now
from rootstream_db.errors import ConflictError
from rootstream_db.models import Recording, RecordingStatus, RecordPolicy, Stream, StreamSession
from rootstream_db.services.billing import meter_recording
from rootstream_db.services.recordings.folder import RecordedFile, RecordingsFolder
from rootstream_db.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    from rootstream_db.services.event_store import EventStore
    from rootstream_db.settings import IngestSettings

EPHEMERAL_DAYS: Final = 7
"""How long an ephemeral recording stays when its stream does not say."""


class RecordingManager:
    """Adds recordings to broadcasts and deletes those whose time is up.

    Only files below ``ingest.recordings_directory`` are touched.
    """

    def __init__(
        self, events: EventStore, settings: IngestSettings, *, clock: Clock = utc_now
    ) -> None:
        self._events = events
        self._folder = RecordingsFolder(settings.recordings_directory)
        self._clock = clock

    def inspect(self, path: str | Path) -> RecordedFile:
        """Read a recording's file from start to end, without any transaction.

        Args:
            path: the file; a relative path is taken from the recordings directory.

        Raises:
            ValidationError: there is no such file, it is empty, no regular file, not readable, or
                lies outside of the recordings directory.
            ConfigurationError: no recordings directory is set, or PyAV is missing.
        """
        return self._folder.inspect(path)

    def add_file(
        self,
        work: UnitOfWork,
        *,
        stream_session_id: int,
        path: str | Path,
        file: RecordedFile | None = None,
    ) -> Recording:
        """Add a file to a broadcast; adding it again returns, or brings up to date, its row.

        A file that cannot be played is kept as ``unreadable``: its bytes are the owner's all the
        same. Reading takes as long as the file is large; for files of many gigabytes ``inspect``
        them before the transaction and pass the result as ``file``.

        Raises:
            NotFoundError: there is no such stream session.
            ValidationError: see ``inspect``.
            ConflictError: the file belongs to another broadcast.
        """
        session = work.stream_sessions.get_one(stream_session_id)
        stream = work.streams.get_one(session.stream_id)
        found = self._folder.inspect(path) if file is None else self._folder.confirm(file, path)
        added = work.recordings.add_once(_row(found, session, stream, work.now))
        if added is None:
            return self._bring_up_to_date(work, stream, session, found)
        meter_recording(work, added, owner_id=stream.owner_id, added_bytes=added.size_bytes)
        self._append(work, stream, "RecordingAdded", added)
        return added

    def delete(self, work: UnitOfWork, recording: Recording) -> None:
        """Delete a recording's file; its row stays as a record that there was one.

        The file goes first: should the transaction fail, the row is still there to try again.

        Raises:
            ValidationError: the file lies outside of the recordings directory or cannot be deleted.
        """
        if recording.status is RecordingStatus.DELETED:
            return
        self._folder.remove(recording.file_path)
        recording.status = RecordingStatus.DELETED
        stream = work.streams.get_one(recording.stream_id)
        self._append(work, stream, "RecordingDeleted", recording)

    def delete_expired(self, work: UnitOfWork, *, limit: int = 100) -> list[Recording]:
        """Delete up to ``limit`` recordings whose time is up; several callers share the work.

        Returns:
            Those that were deleted; fewer than ``limit`` means that none is left.
        """
        expired = work.recordings.lock_expired(work.now, limit=limit)
        for recording in expired:
            self.delete(work, recording)
        return list(expired)

    def _bring_up_to_date(
        self, work: UnitOfWork, stream: Stream, session: StreamSession, found: RecordedFile
    ) -> Recording:
        known = work.recordings.get_by_path(str(found.path))
        if known is None or known.stream_session_id != session.id:
            raise ConflictError(
                f"{found.path} is recorded already, for another broadcast",
                constraint="uq_recordings_file_path",
            )
        if known.sha256 == found.sha256 and known.status is not RecordingStatus.DELETED:
            return known
        grown = found.size_bytes - known.size_bytes
        for name, value in _described(found).items():
            setattr(known, name, value)
        if grown > 0:
            meter_recording(work, known, owner_id=stream.owner_id, added_bytes=grown)
        self._append(work, stream, "RecordingUpdated", known)
        return known

    def _append(
        self, work: UnitOfWork, stream: Stream, event_type: str, recording: Recording
    ) -> None:
        self._events.append(
            work,
            "Stream",
            str(stream.id),
            event_type,
            _event_data(recording),
            user_id=stream.owner_id,
        )


def _row(found: RecordedFile, session: StreamSession, stream: Stream, now: datetime) -> Recording:
    return Recording(
        stream_id=stream.id,
        stream_session_id=session.id,
        file_path=str(found.path),
        expires_at=expiry(stream, now),
        **_described(found),
    )


def _described(found: RecordedFile) -> dict[str, Any]:
    media = found.media
    if media is None:
        unknown = ("duration_seconds", "container", "video_codec", "audio_codec", "width", "height")
        facts: dict[str, Any] = {**dict.fromkeys(unknown), "status": RecordingStatus.UNREADABLE}
    else:
        facts = {
            "status": RecordingStatus.READY,
            "duration_seconds": media.duration_seconds,
            "container": media.container,
            "video_codec": media.video_codec,
            "audio_codec": media.audio_codec,
            "width": media.width,
            "height": media.height,
        }
    return {**facts, "size_bytes": found.size_bytes, "sha256": found.sha256}


def expiry(stream: Stream, now: datetime) -> datetime | None:
    """Return when a recording made now is to be deleted, None if it is kept.

    A file of a stream that wants no recordings is due at once: the server wrote it all the same.
    """
    if stream.record_policy is RecordPolicy.NONE:
        return now
    days = stream.record_keep_days
    if days is None and stream.record_policy is RecordPolicy.EPHEMERAL:
        days = EPHEMERAL_DAYS
    return None if days is None else now + timedelta(days=days)


def _event_data(recording: Recording) -> dict[str, Any]:
    duration = recording.duration_seconds
    expires_at = recording.expires_at
    return {
        "recording_id": recording.id,
        "stream_session_id": recording.stream_session_id,
        "file_path": recording.file_path,
        "status": recording.status,
        "size_bytes": recording.size_bytes,
        "sha256": recording.sha256.hex(),
        "duration_seconds": None if duration is None else float(duration),
        "container": recording.container,
        "video_codec": recording.video_codec,
        "audio_codec": recording.audio_codec,
        "width": recording.width,
        "height": recording.height,
        "expires_at": None if expires_at is None else expires_at.isoformat(),
    }
