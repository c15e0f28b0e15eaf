"""Second factors: enrolment, codes, backup codes, and how an account stands with them."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Literal, overload

from rootstream_db.errors import MfaNotEnrolledError, NotFoundError
from rootstream_db.models.mfa import MfaAttemptMethod
from rootstream_db.security.assurance import AssuranceLevel, MfaMethod, MfaProof
from rootstream_db.security.passwords import PasswordHasher
from rootstream_db.security.tokens import SecretText
from rootstream_db.services.mfa.attempts import AttemptLedger
from rootstream_db.services.mfa.authenticators import Authenticators
from rootstream_db.services.mfa.backup_codes import BackupCodes
from rootstream_db.services.mfa.changes import FactorChanges
from rootstream_db.services.mfa.passkeys import PasskeyManager
from rootstream_db.services.mfa.qr import QrFormat, render_qr_code
from rootstream_db.services.mfa.trusted_devices import TrustedDevices
from rootstream_db.services.mfa.values import (
    Device,
    Enrollment,
    Factor,
    IssuedDevice,
    MfaStatus,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootstream_db.database import Database
    from rootstream_db.models import MfaAttempt, User
    from rootstream_db.security.keyring import KeyRing
    from rootstream_db.security.token_mint import TokenMint
    from rootstream_db.services.event_store import EventStore
    from rootstream_db.services.security_events import SecurityMonitor
    from rootstream_db.services.sessions import SessionManager
    from rootstream_db.settings import MfaSettings
    from rootstream_db.unit_of_work import UnitOfWork


class MfaManager:
    """Everything about an account's second factors.

    Methods take the caller's unit of work. What they check is answered with an ``MfaProof``, which
    ``rs.sessions`` takes, or with an error: never with a yes or no that could be overlooked. They
    are for those who passed the first factor: check the password before you ask for a code.

    Args:
        database: where attempts are counted, in transactions beside the caller's.
        events: the log that changes are appended to.
        settings: issuer, lengths, lockout.
        keyring: what shared secrets, public keys and hashes of codes are sealed with.
        tokens: the mint of trusted devices' tokens.
        sessions: what ends when a factor changes.
        hasher: of backup codes; one of the settings' cost unless given.
        security: where failed attempts are recorded as security events.

    Attributes:
        passkeys: registering passkeys and taking their signatures; needs the extra ``webauthn``.
    """

    def __init__(
        self,
        database: Database,
        events: EventStore,
        settings: MfaSettings,
        *,
        keyring: KeyRing,
        tokens: TokenMint,
        sessions: SessionManager,
        hasher: PasswordHasher | None = None,
        security: SecurityMonitor | None = None,
    ) -> None:
        self._settings = settings
        self._changes = FactorChanges(events, sessions)
        self._ledger = AttemptLedger(database, events, settings, security=security)
        self._authenticators = Authenticators(settings, keyring, self._ledger)
        self._backup_codes = BackupCodes(
            hasher or PasswordHasher(settings.backup_code_hash), keyring, self._ledger
        )
        self.passkeys = PasskeyManager(
            database, settings, keyring=keyring, ledger=self._ledger, changes=self._changes
        )
        self._devices = TrustedDevices(settings, tokens, self._ledger, self._changes)

    def generate_secret(self) -> SecretText:
        """Return a new random shared secret, as people type it into an app."""
        return SecretText(self._authenticators.generate_secret())

    def provisioning_uri(self, user: User, secret: str) -> SecretText:
        """Return the ``otpauth://`` address that an authenticator app reads from a QR code.

        Raises:
            ValidationError: the secret is none.
        """
        totp = self._authenticators.totp(secret)
        return totp.uri(issuer=self._settings.issuer, account=user.username)

    @overload
    def qr_code(self, uri: str, format: Literal["png"]) -> bytes: ...
    @overload
    def qr_code(self, uri: str, format: Literal["svg", "terminal"] = "svg") -> str: ...
    def qr_code(self, uri: str, format: QrFormat = "svg") -> str | bytes:  # noqa: A002 - same
        """Return the QR code of an address: an SVG element, a PNG file, or lines for a terminal."""
        return render_qr_code(uri, format)

    def enroll(
        self,
        work: UnitOfWork,
        user: User,
        *,
        label: str = "Authenticator app",
        secret: str | None = None,
    ) -> Enrollment:
        """Begin to enrol an authenticator app; it counts once it is confirmed with a code.

        Beginning anew with the same label replaces what was begun before.

        Args:
            work: the unit of work.
            user: whose app it is.
            label: what the device is called; accounts may have several.
            secret: one from ``generate_secret``; a new one unless given.

        Raises:
            ValidationError: the label or the secret is none.
            ConflictError: a device of that name is enrolled, or there are too many.
        """
        account = work.users.lock(user.id)
        return self._authenticators.enroll(work, account, label=label, secret=secret)

    def list_enrollments(self, work: UnitOfWork, user: User) -> tuple[Enrollment, ...]:
        """Return the account's apps that can still be confirmed, oldest first.

        Only these show their secret again; that of a confirmed app never leaves the database.
        """
        return self._authenticators.pending(work, user)

    def confirm(
        self,
        work: UnitOfWork,
        enrollment_id: uuid.UUID,
        code: str,
        *,
        except_session: int | None = None,
    ) -> Factor:
        """Finish an enrolment with a code of the app; the code is spent, sessions end.

        Args:
            work: the unit of work.
            enrollment_id: what ``enroll`` returned.
            code: what the app shows.
            except_session: the session that goes on: the one the app was enrolled in.

        Raises:
            EnrollmentExpiredError: it ran out, was finished before, or never was; or the account's
                sessions were ended since, with those that began it.
            InvalidCodeError: the code is wrong; ``ClockSkewError`` if it was right minutes ago.
            TooManyAttemptsError: too many wrong codes.
        """
        row = self._authenticators.confirm(work, enrollment_id, code)
        # A new device is how somebody comes back whose old one was guessed at too often.
        self._ledger.clear(row.user_id, [MfaAttemptMethod.TOTP])
        account = work.users.lock(row.user_id)
        self._changes.added(work, account, row, keep=except_session)
        return Factor.of(row)

    def verify_totp(self, work: UnitOfWork, user: User, code: str) -> MfaProof:
        """Spend a code of one of the account's authenticator apps.

        Raises:
            CodeReusedError: it, or a newer one, was used before.
            InvalidCodeError: it is wrong; ``ClockSkewError`` if it was right minutes ago.
            TooManyAttemptsError: too many wrong codes; ``retry_after`` says how long to wait.
            FactorDisabledError: as many in a row were wrong as may ever be.
            MfaNotEnrolledError: the account has no authenticator app.
        """
        self._authenticators.verify(work, user.id, code)
        return _proof(work, user.id, MfaMethod.TOTP)

    def generate_backup_codes(self, work: UnitOfWork, user: User) -> tuple[SecretText, ...]:
        """Return ten new backup codes, shown this once; all earlier ones are void.

        Raises:
            MfaNotEnrolledError: there is no second factor they could stand in for.
        """
        account = work.users.lock(user.id)
        if not work.mfa_factors.has_confirmed(account.id):
            raise MfaNotEnrolledError("backup codes need a second factor to stand in for")
        codes = self._backup_codes.generate(work, account.id)
        self._ledger.clear(account.id, [MfaAttemptMethod.BACKUP_CODE])
        self._changes.record(work, account, "BackupCodesGenerated", {"count": len(codes)})
        return codes

    def consume_backup_code(self, work: UnitOfWork, user: User, code: str) -> MfaProof:
        """Spend a backup code, in any case and spacing.

        Raises:
            CodeReusedError: it was used before.
            InvalidCodeError: it is wrong.
            TooManyAttemptsError: too many wrong codes; ``retry_after`` says how long to wait.
            FactorDisabledError: as many in a row were wrong as may ever be.
            RateLimitedError: the process is checking too many codes at once.
        """
        slot = self._backup_codes.consume(work, user.id, code)
        data = {"slot": slot, "left": work.recovery_codes.count_unused(user.id)}
        self._changes.record(work, user, "BackupCodeUsed", data)
        return _proof(work, user.id, MfaMethod.BACKUP_CODE)

    def trust_device(
        self, work: UnitOfWork, user: User, proof: MfaProof, *, label: str = "Trusted device"
    ) -> IssuedDevice:
        """Let the device on which a second factor was just checked do without one for a while.

        Its token stands in for the factor, and gives the device a lockout of its own: strangers
        who guess at the password cannot lock its owner out (``rs.accounts.authenticate``). It is
        trusted until its time is up, the password or a factor changes, or it is revoked.

        Args:
            work: the unit of work.
            user: whose device it is.
            proof: what checking the factor was answered with, at most 10 minutes ago.
            label: what the device is called.

        Raises:
            PermissionDeniedError: the proof is another account's, too old, or a trusted device's.
        """
        return self._devices.trust(work, user, proof, label=label)

    def verify_trusted_device(self, work: UnitOfWork, user: User, token: str) -> MfaProof:
        """Take the token of a trusted device in place of a code.

        Raises:
            DeviceNotTrustedError: it is not trusted any more, or not for this account.
            InvalidTokenError: this is no such token.
        """
        self._devices.verify(work, user.id, token)
        return _proof(work, user.id, MfaMethod.TRUSTED_DEVICE)

    def list_trusted_devices(self, work: UnitOfWork, user: User) -> tuple[Device, ...]:
        """Return the account's trusted devices, the last used one first."""
        return self._devices.list(work, user.id)

    def revoke_trusted_device(self, work: UnitOfWork, user: User, device_id: int) -> None:
        """Trust a device no more; sessions opened on it before live on.

        Raises:
            NotFoundError: the account has no such device.
        """
        self._devices.revoke(work, user, device_id)

    def unenroll(
        self,
        work: UnitOfWork,
        user: User,
        factor_id: uuid.UUID,
        *,
        except_session: int | None = None,
    ) -> None:
        """Remove a factor; sessions end, and backup codes go with the last factor.

        Args:
            work: the unit of work.
            user: whose factor it is.
            factor_id: which one.
            except_session: the session that goes on: the one it is done in.

        Raises:
            NotFoundError: the account has no such factor.
        """
        account = work.users.lock(user.id)
        row = work.mfa_factors.find(factor_id)
        if row is None or row.user_id != account.id or not row.is_confirmed:
            raise NotFoundError("second factor", factor_id)
        work.mfa_factors.delete(row)
        if not work.mfa_factors.has_confirmed(account.id):
            work.recovery_codes.delete_of_user(account.id)
        self._changes.removed(work, account, row, keep=except_session)

    def reset(self, work: UnitOfWork, user: User) -> int:
        """Remove all factors and backup codes of an account, for an owner who lost them.

        Returns:
            How many factors there were.
        """
        account = work.users.lock(user.id)
        removed = work.mfa_factors.delete_of_user(account.id)
        work.recovery_codes.delete_of_user(account.id)
        self._changes.end_sessions(work, account)
        self._changes.record(work, account, "MfaReset", {"factors": removed})
        self._ledger.clear(account.id)
        return removed

    def unlock(self, work: UnitOfWork, user: User) -> None:
        """Forget the account's failed attempts: locked and disabled methods are open again."""
        self._ledger.clear(user.id)
        self._changes.record(work, user, "MfaUnlocked", {})

    def list_factors(self, work: UnitOfWork, user: User) -> tuple[Factor, ...]:
        """Return the account's factors, oldest first."""
        rows = work.mfa_factors.list_by_user(user.id)
        return tuple(Factor.of(row) for row in rows if row.is_confirmed)

    def list_attempts(
        self, work: UnitOfWork, user: User, *, limit: int = 100
    ) -> Sequence[MfaAttempt]:
        """Return the latest attempts at the account's factors, newest first."""
        return work.mfa_attempts.list_by_user(user.id, limit=limit)

    def status(self, work: UnitOfWork, user: User) -> MfaStatus:
        """Return how the account stands with its second factors."""
        factors = self.list_factors(work, user)
        throttle = work.mfa_throttle.list_by_user(user.id)
        disabled = tuple(row.method for row in throttle if self._ledger.is_disabled(row))
        return MfaStatus(
            enabled=bool(factors),
            required=bool(factors) or self._settings.required,
            factors=factors,
            backup_codes_left=work.recovery_codes.count_unused(user.id),
            locked_until={
                row.method: row.locked_until
                for row in throttle
                if row.locked_until is not None and row.wait(work.now)
            },
            disabled=disabled,
        )

    def delete_expired(self, work: UnitOfWork, *, limit: int = 1000) -> int:
        """Delete one batch of enrolments, challenges and trusted devices that ran out.

        Call it again, in a transaction of its own each time, until it returns 0.

        Returns:
            How many rows went.
        """
        stores = (work.mfa_factors, work.passkey_challenges, work.trusted_devices)
        return sum(store.delete_expired(work.now, limit=limit) for store in stores)


def _proof(work: UnitOfWork, user_id: int, method: MfaMethod) -> MfaProof:
    return MfaProof(user_id, method, AssuranceLevel.MFA, work.now)
