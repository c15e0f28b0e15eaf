"""The whole error tree: every failure a caller can meet, with its data as attributes."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

from rootstream_db.correlation import current_correlation_id


class Severity(StrEnum):
    """How urgently an operator should look: a wrong password is low, split brain is critical."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class RootStreamError(Exception):
    """Base of every error this package raises on purpose.

    Attributes:
        code: stable dotted name for programs, e.g. ``storage.conflict``.
        severity: how urgent the failure is for an operator.
        retryable: whether the same call may succeed if simply made again.
        context: facts about the failure, never secrets.
        correlation_id: the id of the work in progress when the error was made.
    """

    code: ClassVar[str] = "rootstream"
    severity: ClassVar[Severity] = Severity.MEDIUM
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **context: Any) -> None:
        super().__init__(message)
        self.context: dict[str, Any] = context
        self.correlation_id = current_correlation_id()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by state, because subclasses build their message from other arguments."""
        return (_rebuild, (type(self), self.args, self.__dict__))

    def as_dict(self) -> dict[str, Any]:
        """Return the error as JSON-ready data, the form ``--json`` prints."""
        return {
            "code": self.code,
            "message": str(self),
            "severity": self.severity.value,
            "retryable": self.retryable,
            "context": {key: _plain(value) for key, value in self.context.items()},
            "correlation_id": self.correlation_id,
        }


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _rebuild(
    cls: type[RootStreamError], args: tuple[Any, ...], state: dict[str, Any]
) -> RootStreamError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigurationError(RootStreamError, ValueError):
    """A setting is missing or wrong; ``setting`` names it."""

    code = "configuration"
    severity = Severity.HIGH

    def __init__(self, message: str, *, setting: str | None = None, **context: Any) -> None:
        super().__init__(message, setting=setting, **context)
        self.setting = setting


class ValidationError(RootStreamError, ValueError):
    """A value given by a caller breaks a rule; ``field`` names it."""

    code = "validation"
    severity = Severity.LOW

    def __init__(self, message: str, *, field: str | None = None, **context: Any) -> None:
        super().__init__(message, field=field, **context)
        self.field = field


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


class AuthenticationError(RootStreamError):
    """Somebody could not prove who they are."""

    code = "auth"
    severity = Severity.LOW


class InvalidCredentialsError(AuthenticationError):
    """The login or the password is wrong; which of the two is never said."""

    code = "auth.invalid_credentials"


class SessionExpiredError(AuthenticationError):
    """The session or token ran out."""

    code = "auth.session_expired"


class SessionRevokedError(AuthenticationError):
    """The session was ended by its user or an operator."""

    code = "auth.session_revoked"


class DeviceMismatchError(AuthenticationError):
    """The session is used from a device it was not issued to."""

    code = "auth.device_mismatch"
    severity = Severity.MEDIUM


class MfaRequiredError(AuthenticationError):
    """The password was right; a second factor is still owed."""

    code = "auth.mfa_required"


class InvalidCodeError(AuthenticationError):
    """The code or one-time token is wrong, expired or unknown."""

    code = "auth.invalid_code"


class CodeReusedError(AuthenticationError):
    """The code or one-time token was used before."""

    code = "auth.code_reused"
    severity = Severity.MEDIUM


class TooManyAttemptsError(AuthenticationError):
    """Too many failures; try again after ``retry_after`` seconds."""

    code = "auth.too_many_attempts"
    severity = Severity.MEDIUM

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message, retry_after=retry_after)
        self.retry_after = retry_after


class PermissionDeniedError(RootStreamError):
    """The caller is known but may not do this."""

    code = "permission_denied"
    severity = Severity.LOW


class RateLimitedError(RootStreamError):
    """Too many calls; try again after ``retry_after`` seconds."""

    code = "rate_limited"
    severity = Severity.LOW
    retryable = True

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message, retry_after=retry_after)
        self.retry_after = retry_after


class SyncError(RootStreamError):
    """State and the history it comes from do not agree."""

    code = "sync"
    severity = Severity.HIGH


class SnapshotCorruptError(SyncError):
    """A stored snapshot is not what was saved; replay without it."""

    code = "sync.snapshot_corrupt"

    def __init__(self, aggregate: str, *, version: int) -> None:
        super().__init__(
            f"the snapshot of {aggregate} at version {version} is not what was saved: its checksum "
            "does not match",
            aggregate=aggregate,
            version=version,
        )
        self.aggregate = aggregate
        self.version = version


class UnknownEventVersionError(SyncError):
    """An event has a form this program does not understand: a newer release wrote it."""

    code = "sync.unknown_event_version"

    def __init__(self, event_type: str, *, version: int, position: int, reason: str) -> None:
        super().__init__(
            f"event {position} is a {event_type} of version {version}: {reason}",
            event_type=event_type,
            version=version,
            position=position,
        )
        self.event_type = event_type
        self.version = version
        self.position = position


class EmbeddedServerError(RootStreamError):
    """A server started by the package itself did not start, stay up or stop."""

    code = "embedded"
    severity = Severity.HIGH


class CommandError(RootStreamError):
    """A program that was run for the caller failed; its standard error carries no secrets."""

    code = "command"
    severity = Severity.HIGH

    def __init__(self, command: str, *, exit_code: int, stderr: str) -> None:
        super().__init__(
            f"{command} ended with exit code {exit_code}: {stderr.strip() or 'no message'}",
            command=command,
            exit_code=exit_code,
            stderr=stderr,
        )
        self.command = command
        self.exit_code = exit_code
        self.stderr = stderr
