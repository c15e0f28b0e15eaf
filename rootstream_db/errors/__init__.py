"""The whole error tree: every failure a caller can meet, with its data as attributes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
    """The session or API key was ended by its user or an operator, or its account was closed."""

    code = "auth.session_revoked"


class DeviceMismatchError(AuthenticationError):
    """The session is used from a device it was not issued to."""

    code = "auth.device_mismatch"
    severity = Severity.MEDIUM


class MfaRequiredError(AuthenticationError):
    """The password was right; a second factor is still owed."""

    code = "auth.mfa_required"


class ReauthenticationRequiredError(AuthenticationError):
    """The session proves too little or proved it too long ago: the password is needed again."""

    code = "auth.reauthentication_required"


class InvalidCodeError(AuthenticationError):
    """The code or one-time token is wrong, expired or unknown."""

    code = "auth.invalid_code"


class InvalidTokenError(AuthenticationError):
    """The text is no token of the kind that is wanted; ``reason`` says what about it is wrong.

    The reason is for operators: ``shape``, ``checksum``, ``kind`` or ``pepper``, found before
    anything was looked up, or ``unknown``: none like it was issued.
    """

    code = "auth.invalid_token"

    def __init__(self, reason: str) -> None:
        super().__init__("this is not a valid token", reason=reason)
        self.reason = reason


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


class ClockSkewError(InvalidCodeError):
    """The code was right some minutes ago: the clock of the device that made it is slow."""

    code = "auth.clock_skew"

    def __init__(self, message: str, *, seconds_behind: int) -> None:
        super().__init__(message, seconds_behind=seconds_behind)
        self.seconds_behind = seconds_behind


class DeviceNotTrustedError(AuthenticationError):
    """The device is not trusted, or not any more: it owes a second factor."""

    code = "auth.device_not_trusted"


class EnrollmentExpiredError(AuthenticationError):
    """The enrolment of a second factor ran out, was finished before, or never was."""

    code = "auth.enrollment_expired"


class FactorDisabledError(AuthenticationError):
    """So many attempts failed in a row that the factor takes no more; ``method`` names it."""

    code = "auth.factor_disabled"
    severity = Severity.HIGH

    def __init__(self, message: str, *, method: str) -> None:
        super().__init__(message, method=method)
        self.method = method


class MfaNotEnrolledError(AuthenticationError):
    """The account has no second factor of the kind that was asked for."""

    code = "auth.mfa_not_enrolled"


class IdentityRefusedError(AuthenticationError):
    """An identity of another site opens no account; ``reason`` says why, for programs.

    ``no_account``: nobody has it, so register and link. ``email_unverified``: the other site has
    not proved the address. ``account_unverified``: the account with that address has not proved it
    either, so it may be somebody else's. ``account_closed``: its account is closed.
    """

    code = "auth.identity_refused"

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message, reason=reason)
        self.reason = reason


class IdTokenError(AuthenticationError):
    """An ID token is not to be believed; ``reason`` says what about it is wrong, for operators.

    ``form``, ``alg``, ``kid``, ``key``, ``signature``, or the name of the claim.
    """

    code = "auth.id_token"
    severity = Severity.MEDIUM

    def __init__(self, reason: str) -> None:
        super().__init__("this ID token is not valid", reason=reason)
        self.reason = reason


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


class PasskeyError(AuthenticationError):
    """A passkey's answer is malformed, unknown, or not signed by the passkey."""

    code = "auth.passkey"


class PasskeyChallengeError(PasskeyError):
    """The answer is to another challenge than the one that was given."""

    code = "auth.passkey_challenge"
    severity = Severity.MEDIUM


class PasskeyChallengeSpentError(PasskeyError):
    """The challenge was answered before, ran out, or never was."""

    code = "auth.passkey_challenge_spent"


class PasskeyOriginError(PasskeyError):
    """The passkey was used on a page of another ``origin``: somebody may be imitating ours."""

    code = "auth.passkey_origin"
    severity = Severity.HIGH

    def __init__(self, message: str, *, origin: str) -> None:
        super().__init__(message, origin=origin)
        self.origin = origin


class PasskeyRelyingPartyError(PasskeyError):
    """The passkey answered for another site."""

    code = "auth.passkey_relying_party"
    severity = Severity.HIGH


class PasskeyClonedError(PasskeyError):
    """The passkey's counter did not rise: there may be a copy of it."""

    code = "auth.passkey_cloned"
    severity = Severity.HIGH


class UserNotVerifiedError(PasskeyError):
    """The passkey was there, but it did not ask its user for a finger, a face or a PIN."""

    code = "auth.user_not_verified"


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
