"""The whole error tree: every failure a caller can meet, with its data as attributes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rootstream_db.errors.authentication import AuthenticationError as AuthenticationError
from rootstream_db.errors.authentication import ClockSkewError as ClockSkewError
from rootstream_db.errors.authentication import CodeReusedError as CodeReusedError
from rootstream_db.errors.authentication import DeviceMismatchError as DeviceMismatchError
from rootstream_db.errors.authentication import DeviceNotTrustedError as DeviceNotTrustedError
from rootstream_db.errors.authentication import EnrollmentExpiredError as EnrollmentExpiredError
from rootstream_db.errors.authentication import FactorDisabledError as FactorDisabledError
from rootstream_db.errors.authentication import IdentityRefusedError as IdentityRefusedError
from rootstream_db.errors.authentication import IdTokenError as IdTokenError
from rootstream_db.errors.authentication import InvalidCodeError as InvalidCodeError
from rootstream_db.errors.authentication import InvalidCredentialsError as InvalidCredentialsError
from rootstream_db.errors.authentication import InvalidTokenError as InvalidTokenError
from rootstream_db.errors.authentication import MfaNotEnrolledError as MfaNotEnrolledError
from rootstream_db.errors.authentication import MfaRequiredError as MfaRequiredError
from rootstream_db.errors.authentication import PasskeyChallengeError as PasskeyChallengeError
from rootstream_db.errors.authentication import (
    PasskeyChallengeSpentError as PasskeyChallengeSpentError,
)
from rootstream_db.errors.authentication import PasskeyClonedError as PasskeyClonedError
from rootstream_db.errors.authentication import PasskeyError as PasskeyError
from rootstream_db.errors.authentication import PasskeyOriginError as PasskeyOriginError
from rootstream_db.errors.authentication import PasskeyRelyingPartyError as PasskeyRelyingPartyError
from rootstream_db.errors.authentication import (
    ReauthenticationRequiredError as ReauthenticationRequiredError,
)
from rootstream_db.errors.authentication import SessionExpiredError as SessionExpiredError
from rootstream_db.errors.authentication import SessionRevokedError as SessionRevokedError
from rootstream_db.errors.authentication import TooManyAttemptsError as TooManyAttemptsError
from rootstream_db.errors.authentication import UserNotVerifiedError as UserNotVerifiedError
from rootstream_db.errors.base import RootStreamError as RootStreamError
from rootstream_db.errors.base import Severity as Severity
from rootstream_db.errors.storage import AppendOnlyError as AppendOnlyError
from rootstream_db.errors.storage import (
    AuthBackendUnavailableError as AuthBackendUnavailableError,
)
from rootstream_db.errors.storage import CacheUnavailableError as CacheUnavailableError
from rootstream_db.errors.storage import CircuitOpenError as CircuitOpenError
from rootstream_db.errors.storage import ConflictError as ConflictError
from rootstream_db.errors.storage import DatabaseUnavailableError as DatabaseUnavailableError
from rootstream_db.errors.storage import EventArchiveError as EventArchiveError
from rootstream_db.errors.storage import EventArchiveMissingError as EventArchiveMissingError
from rootstream_db.errors.storage import JobRunningError as JobRunningError
from rootstream_db.errors.storage import LogDivergedError as LogDivergedError
from rootstream_db.errors.storage import NotFoundError as NotFoundError
from rootstream_db.errors.storage import ReadOnlyDatabaseError as ReadOnlyDatabaseError
from rootstream_db.errors.storage import SchemaError as SchemaError
from rootstream_db.errors.storage import StaleLeaseError as StaleLeaseError
from rootstream_db.errors.storage import StorageError as StorageError
from rootstream_db.errors.storage import StorageTimeoutError as StorageTimeoutError
from rootstream_db.errors.storage import StreamAlreadyLiveError as StreamAlreadyLiveError
from rootstream_db.errors.storage import TransientStorageError as TransientStorageError
from rootstream_db.errors.storage import VersionConflictError as VersionConflictError


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


class IdentityProviderError(RootStreamError):
    """The keys of a site that vouches for people cannot be had; ``url`` says where they are."""

    code = "auth.identity_provider"
    severity = Severity.HIGH
    retryable = True

    def __init__(self, message: str, *, url: str) -> None:
        super().__init__(message, url=url)
        self.url = url


class LastLoginWayError(ConflictError):
    """Without this the account could not be logged in to any more."""

    code = "access.last_login_way"


class PermissionDeniedError(RootStreamError):
    """The caller is known but may not do this; ``permission`` names the one that was missing."""

    code = "permission_denied"
    severity = Severity.LOW

    def __init__(self, message: str, *, permission: str | None = None, **context: Any) -> None:
        if permission is not None:
            context["permission"] = permission
        super().__init__(message, **context)
        self.permission = permission


class RoleCycleError(ConflictError):
    """A role cannot inherit from one that inherits from it; ``path`` is the cycle by names."""

    code = "access.role_cycle"

    def __init__(self, path: Sequence[str]) -> None:
        way = " > ".join(path)
        super().__init__(f"roles would inherit from one another in a cycle: {way}", path=way)
        self.path = tuple(path)


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


class SealError(RootStreamError):
    """A sealed value cannot be opened."""

    code = "seal"
    severity = Severity.HIGH


class UnknownKeyError(SealError):
    """The master key that a value was sealed under is not in the key ring."""

    code = "seal.unknown_key"

    def __init__(self, key_id: int, *, known: tuple[int, ...]) -> None:
        super().__init__(
            f"the value was sealed under master key {key_id}, which is not in the key ring (it has "
            f"{', '.join(map(str, known))}): add the key again",
            key_id=key_id,
            known=known,
        )
        self.key_id = key_id
        self.known = known


class SealBrokenError(SealError):
    """A sealed value was changed, cut, or moved from the place it was sealed for."""

    code = "seal.broken"
    severity = Severity.CRITICAL

    def __init__(self) -> None:
        super().__init__(
            "the sealed value does not open: it was changed, cut, or belongs to another place"
        )


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
