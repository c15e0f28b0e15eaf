"""Moving old events out of the database: written, read back, and only then deleted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from rootstream_db.clock import Clock, utc_now
from rootstream_db.database import Database
from rootstream_db.errors import EventArchiveError, JobRunningError, SyncError, ValidationError
from rootstream_db.repositories.event_archives import Archive, EventArchiveRepository
from rootstream_db.repositories.event_proofs import EventProofRepository
from rootstream_db.services.event_archive.reader import archive_directory
from rootstream_db.services.event_archive.spans import Found, LogSpan, SpanReader
from rootstream_db.services.event_archive.writer import (
    PARTIAL,
    new_file,
    partial_path,
    publish,
    sync_directory,
)
from rootstream_db.settings import EventSettings
from rootstream_db.unit_of_work import UnitOfWork

JOB: Final = "archiving events"
"""What the lock is called that only one archiver of a database holds."""


class ArchivePlan(NamedTuple):
    """What would be archived: the events after one position, up to another."""

    after_position: int
    last_position: int

    @property
    def events(self) -> int:
        """How many events that is."""
        return max(0, self.last_position - self.after_position)


class EventArchiver:
    """Moves the oldest events of the log into files, where readers go on finding them.

    Whatever it is doing when it dies: every event is in the log or in a file that the manifest
    names, never in neither and never in both, and the next run goes on from there.

    Args:
        database: where the log is.
        settings: where the files go, and how large they become.
        clock: the source of the current time.
    """

    def __init__(
        self,
        database: Database,
        settings: EventSettings,
        *,
        clock: Clock = utc_now,
    ) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock

    def archives(self) -> list[Archive]:
        """Return the archives there are, in the order of the log."""
        with self._database.read() as unit:
            return EventArchiveRepository(unit.session).list_all()

    def missing(self) -> list[Archive]:
        """Return the archives whose file is not there, or has another length than it had.

        What is in the files is for ``EventStore.verify`` to say.

        Raises:
            ConfigurationError: there are archives, and no setting says where.
        """
        found = self.archives()
        if not found:
            return []
        directory = archive_directory(self._settings.archive_directory)
        return [
            archive
            for archive in found
            if _length(directory / archive.file_name) != archive.size_bytes
        ]

    def plan(
        self,
        *,
        before_position: int | None = None,
        older_than: timedelta | None = None,
        keep: int | None = None,
    ) -> ArchivePlan:
        """Return what ``archive`` would move now; where it ends, a commit ends.

        Raises:
            ValidationError: no limit is given, or one that cannot be.
        """
        _check_limits(before_position=before_position, older_than=older_than, keep=keep)
        with self._database.read() as unit:
            archives, proofs = (
                EventArchiveRepository(unit.session),
                EventProofRepository(unit.session),
            )
            after, head = archives.get_end(), unit.events.get_head().last_position
            limits = [head]
            if before_position is not None:
                limits.append(before_position - 1)
            if keep is not None:
                limits.append(head - keep)
            if older_than is not None:
                moment = self._clock() - older_than
                young = archives.get_commit_before(moment, after_position=after)
                limits.append(head if young is None else young)
            last, _chain = proofs.get_start(max(0, min(limits)))
        return ArchivePlan(after, max(after, last))

    def archive(
        self,
        *,
        before_position: int | None = None,
        older_than: timedelta | None = None,
        keep: int | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> list[Archive]:
        """Move the oldest events into files and return the new archives.

        Of several limits the strictest counts. Events that were appended together stay together,
        so that a few more than asked may stay in the log.

        Args:
            before_position: only events before this position.
            older_than: only events that were recorded longer ago than this.
            keep: leave so many of the latest events in the log.
            progress: called with the number of events written since its last call.

        Raises:
            ValidationError: no limit is given, or one that cannot be.
            ConfigurationError: no setting says where the files go, or zstandard is not installed.
            JobRunningError: another process archives events of this database.
            AppendOnlyError: the database's role may not delete from the log.
            SyncError: the log does not hold against its own hashes; nothing of it was moved.
            EventArchiveError: a file could not be written.
        """
        directory = archive_directory(self._settings.archive_directory)
        with self._database.exclusively(JOB):
            plan = self.plan(before_position=before_position, older_than=older_than, keep=keep)
            made: list[Archive] = []
            if plan.events:
                _prepare(directory)
            while plan.events:
                made.append(self._archive_next(directory, plan, progress))
                plan = plan._replace(after_position=made[-1].last_position)
        return made

    def _archive_next(
        self, directory: Path, plan: ArchivePlan, progress: Callable[[int], object] | None
    ) -> Archive:
        spans = SpanReader(self._database, file_events=self._settings.archive_file_events)
        span = spans.left_behind(directory, *plan) or spans.next(*plan)
        path = directory / span.file_name
        try:
            found = spans.inspect(path, span) if path.exists() else None
            if found is None:
                found = _write(spans, span, path)
        except OSError as error:
            raise _unwritten(span, path, f"cannot be written: {error.strerror}") from error
        if progress is not None:
            progress(span.events)
        self._keep_ids(span)
        return self._move(span, found)

    def _keep_ids(self, span: LogSpan) -> None:
        def keep(work: UnitOfWork) -> None:
            EventArchiveRepository(work.session).keep_ids(
                first_position=span.first_position, last_position=span.last_position
            )

        self._database.run(keep, idempotent=True)

    def _move(self, span: LogSpan, found: Found) -> Archive:
        return self._database.run(partial(_moved, span=span, found=found), idempotent=True)


def _write(spans: SpanReader, span: LogSpan, path: Path) -> Found:
    unfinished = partial_path(path)
    with new_file(unfinished) as file:
        spans.copy(span, file)
    found = spans.inspect(unfinished, span)
    if found is None:
        raise _unwritten(span, unfinished, "does not read back as it was written")
    publish(unfinished, path)
    return found


def _unwritten(span: LogSpan, path: Path, reason: str) -> EventArchiveError:
    return EventArchiveError(
        str(path),
        reason,
        first_position=span.first_position,
        last_position=span.last_position,
    )


def _moved(work: UnitOfWork, *, span: LogSpan, found: Found) -> Archive:
    archives = EventArchiveRepository(work.session)
    archive = Archive(
        log_id=span.log_id,
        first_position=span.first_position,
        last_position=span.last_position,
        file_name=span.file_name,
        size_bytes=found.size_bytes,
        sha256=found.sha256,
        index_sha256=found.index_sha256,
        chain=span.chain,
        epoch=work.events.get_head().epoch,
        recorded_from=found.recorded_from,
        recorded_until=found.recorded_until,
        created_at=work.now,
    )
    end = archives.get_end()
    if end == span.last_position:
        # The answer to the commit was lost on the way; it had happened.
        return archive
    if end != span.after_position:
        raise JobRunningError(JOB)
    if archives.move(archive, block_starts=found.block_starts) != (span.events, found.hashes):
        raise SyncError(
            f"the events {span.first_position} to {span.last_position} of the log are no longer "
            "those that were written to the archive: somebody changed them meanwhile"
        )
    return archive


def _length(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _prepare(directory: Path) -> None:
    """Make the directory, and remove what runs that were killed did not finish."""
    if not directory.is_dir():
        directory.mkdir(parents=True)
        sync_directory(directory.parent)
    for path in directory.glob(f"events-*{PARTIAL}"):
        path.unlink(missing_ok=True)


def _check_limits(
    *, before_position: int | None, older_than: timedelta | None, keep: int | None
) -> None:
    if before_position is None and older_than is None and keep is None:
        raise ValidationError(
            "say what to archive: before_position, older_than or keep", field="before_position"
        )
    if before_position is not None and before_position < 1:
        raise ValidationError("positions begin with 1", field="before_position")
    if older_than is not None and older_than < timedelta(0):
        raise ValidationError("older_than is at least 0", field="older_than")
    if keep is not None and keep < 0:
        raise ValidationError("keep is at least 0", field="keep")
