"""Errors of people and programs that could not prove who they are."""

from __future__ import annotations

from rootstream_db.errors.base import RootStreamError, Severity


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
