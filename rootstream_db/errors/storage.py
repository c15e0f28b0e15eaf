"""Errors of PostgreSQL, Redis and what is stored there."""

from __future__ import annotations

from typing import Any

from rootstream_db.errors.base import RootStreamError, Severity


class StorageError(RootStreamError):
    """PostgreSQL or Redis could not do what was asked."""

    code = "storage"


class NotFoundError(StorageError, LookupError):
    """No row of that kind has that key."""

    code = "storage.not_found"
    severity = Severity.LOW

    def __init__(self, kind: str, key: object) -> None:
        super().__init__(f"no {kind} with {key!r}", kind=kind, key=key)
        self.kind = kind
        self.key = key


class ConflictError(StorageError):
    """The write contradicts what is stored; ``constraint`` names the database's rule."""

    code = "storage.conflict"
    severity = Severity.LOW

    def __init__(self, message: str, *, constraint: str | None = None, **context: Any) -> None:
        super().__init__(message, constraint=constraint, **context)
        self.constraint = constraint


class VersionConflictError(ConflictError):
    """Another writer appended to the aggregate first."""

    code = "storage.version_conflict"

    def __init__(self, aggregate: str, *, expected: int | str, actual: int) -> None:
        super().__init__(
            f"{aggregate} is at version {actual}, not at the expected {expected}: "
            "read it again and decide anew",
            aggregate=aggregate,
            expected=expected,
            actual=actual,
        )
        self.aggregate = aggregate
        self.expected = expected
        self.actual = actual


class AppendOnlyError(StorageError):
    """Somebody tried to change or delete what is recorded in the event log."""

    code = "storage.append_only"
    severity = Severity.HIGH


class LogDivergedError(StorageError):
    """The event log is not the one the reader knows: a restore cut its history."""

    code = "storage.log_diverged"
    severity = Severity.HIGH


class EventArchiveError(StorageError):
    """A file of archived events cannot be read, or does not hold what was put into it.

    Attributes:
        file: which one.
        first_position: the first event that is out of reach.
        last_position: the last event that is out of reach.
    """

    code = "storage.event_archive"
    severity = Severity.HIGH

    def __init__(self, file: str, reason: str, *, first_position: int, last_position: int) -> None:
        super().__init__(
            f"{file}, the archive of events {first_position} to {last_position}, {reason}",
            file=file,
            first_position=first_position,
            last_position=last_position,
        )
        self.file = file
        self.first_position = first_position
        self.last_position = last_position


class EventArchiveMissingError(EventArchiveError):
    """A file of archived events is not where the settings say."""

    code = "storage.event_archive_missing"


class JobRunningError(StorageError):
    """Another process is doing the job that only one may do at a time; ``job`` names it."""

    code = "storage.job_running"
    severity = Severity.LOW
    retryable = True

    def __init__(self, job: str) -> None:
        super().__init__(f"another process is busy with {job}: try again later", job=job)
        self.job = job


class StreamAlreadyLiveError(ConflictError):
    """Another publisher holds the live lease of the stream."""

    code = "stream.already_live"

    def __init__(self, stream_id: int, *, owner: str | None) -> None:
        super().__init__(
            f"stream {stream_id} is already live from {owner or 'another publisher'}",
            stream_id=stream_id,
            owner=owner,
        )
        self.stream_id = stream_id
        self.owner = owner


class StaleLeaseError(ConflictError):
    """The lease is over: a newer epoch exists, it expired, or the stream ended."""

    code = "stream.stale_lease"

    def __init__(self, stream_id: int, *, epoch: int, current_epoch: int, reason: str) -> None:
        super().__init__(
            f"the lease on stream {stream_id} (epoch {epoch}) no longer holds: {reason}",
            stream_id=stream_id,
            epoch=epoch,
            current_epoch=current_epoch,
            reason=reason,
        )
        self.stream_id = stream_id
        self.epoch = epoch
        self.current_epoch = current_epoch
        self.reason = reason


class SchemaError(StorageError):
    """The database's schema is not the one this release needs."""

    code = "storage.schema"
    severity = Severity.HIGH

    def __init__(self, message: str, *, current: str | None, head: str | None) -> None:
        super().__init__(message, current=current, head=head)
        self.current = current
        self.head = head


class DatabaseUnavailableError(StorageError):
    """PostgreSQL cannot be reached, is starting, stopping or out of connections."""

    code = "storage.database_unavailable"
    severity = Severity.CRITICAL
    retryable = True


class AuthBackendUnavailableError(DatabaseUnavailableError):
    """Nobody who could say whether a session holds can be asked, so it is not let through."""

    code = "storage.auth_backend_unavailable"


class ReadOnlyDatabaseError(DatabaseUnavailableError):
    """The server reached is a standby: a failover is under way or the address is a replica's."""

    code = "storage.read_only"


class TransientStorageError(StorageError):
    """PostgreSQL asked for the transaction to be run again (serialization failure, deadlock)."""

    code = "storage.transient"
    severity = Severity.LOW
    retryable = True


class StorageTimeoutError(StorageError):
    """A statement, lock or connection wait took longer than its limit."""

    code = "storage.timeout"
    severity = Severity.HIGH
    retryable = True


class CacheUnavailableError(StorageError):
    """Redis cannot be reached."""

    code = "storage.cache_unavailable"
    severity = Severity.HIGH
    retryable = True


class CircuitOpenError(DatabaseUnavailableError):
    """The database failed repeatedly; calls are refused until ``retry_after`` seconds passed."""

    code = "storage.circuit_open"

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message, retry_after=retry_after)
        self.retry_after = retry_after
