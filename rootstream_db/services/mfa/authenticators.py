"""Authenticator apps: enrolment, confirmation, and codes that are good once."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rootstream_db.errors import (
    ClockSkewError,
    CodeReusedError,
    EnrollmentExpiredError,
    InvalidCodeError,
    MfaNotEnrolledError,
    ValidationError,
)
from rootstream_db.models.mfa import FactorKind, MfaAttemptMethod, MfaFactor, MfaOutcome
from rootstream_db.security.totp import (
    Totp,
    TotpAlgorithm,
    decode_secret,
    encode_secret,
    new_secret,
)
from rootstream_db.services.mfa.rules import check_label, check_room, secret_context
from rootstream_db.services.mfa.values import Enrollment

if TYPE_CHECKING:
    from datetime import datetime

    from rootstream_db.models import User
    from rootstream_db.security.keyring import KeyRing
    from rootstream_db.services.mfa.attempts import AttemptLedger
    from rootstream_db.settings import MfaSettings
    from rootstream_db.unit_of_work import UnitOfWork

PURPOSE: Final = "mfa.totp"
"""What the data key of shared secrets is derived for."""

SKEW_STEPS: Final = 10
"""How far around now a code is looked for to tell a wrong clock from a wrong code."""


@dataclass(frozen=True, slots=True)
class _Device:
    """An authenticator app with its secret opened."""

    row: MfaFactor
    totp: Totp


class Authenticators:
    """Enrols authenticator apps and checks their codes.

    A code is spent by one statement that moves the device's last step forward. It belongs to the
    caller's transaction, as the session that is opened on the strength of it: both or neither.
    """

    def __init__(self, settings: MfaSettings, keyring: KeyRing, ledger: AttemptLedger) -> None:
        self._settings = settings
        self._keyring = keyring
        self._ledger = ledger

    def generate_secret(self) -> str:
        """Return a new random shared secret in base 32."""
        return encode_secret(new_secret(TotpAlgorithm(self._settings.algorithm)))

    def totp(self, secret: str) -> Totp:
        """Return what the settings make of a secret in base 32.

        Raises:
            ValidationError: it is none.
        """
        try:
            key = decode_secret(secret)
        except ValueError as error:
            raise ValidationError(str(error), field="secret") from None
        return Totp(key, TotpAlgorithm(self._settings.algorithm), self._settings.digits)

    def enroll(
        self, work: UnitOfWork, account: User, *, label: str, secret: str | None
    ) -> Enrollment:
        """Store a device that is to be confirmed; the account is locked."""
        name = check_label(label)
        totp = self.totp(secret or self.generate_secret())
        work.mfa_factors.delete_pending(account.id, name, now=work.now)
        known = work.mfa_factors.list_by_user(account.id)
        check_room(known, name, most=self._settings.max_factors)
        factor_id = uuid.uuid4()
        sealed = self._keyring.seal(
            totp.secret, purpose=PURPOSE, context=secret_context(account.id, factor_id)
        )
        row = work.mfa_factors.add(
            MfaFactor(
                id=factor_id,
                user_id=account.id,
                kind=FactorKind.TOTP,
                label=name,
                enrollment_expires_at=work.now + self._settings.enrollment_ttl,
                enrollment_epoch=account.auth_epoch,
                secret=sealed,
                secret_key_id=self._keyring.key_id(sealed),
                algorithm=totp.algorithm,
                digits=totp.digits,
                period_seconds=totp.period,
            )
        )
        return self._shown(row, totp, account)

    def pending(self, work: UnitOfWork, account: User) -> tuple[Enrollment, ...]:
        """Return the account's enrolments that can still be confirmed, oldest first."""
        rows = work.mfa_factors.list_by_user(account.id)
        return tuple(
            self._shown(row, self._opened(row).totp, account)
            for row in rows
            if row.kind is FactorKind.TOTP
            and row.is_pending(work.now)
            and row.enrollment_epoch == account.auth_epoch
        )

    def confirm(self, work: UnitOfWork, enrollment_id: uuid.UUID, code: str) -> MfaFactor:
        """Finish an enrolment with a code of the device, which is spent with it."""
        method = MfaAttemptMethod.ENROLLMENT
        row = work.mfa_factors.find(enrollment_id)
        if row is None or row.kind is not FactorKind.TOTP or row.is_confirmed:
            raise _over()
        if not row.is_pending(work.now):
            self._ledger.record(row.user_id, method, MfaOutcome.EXPIRED, factor_id=row.id)
            raise _over()
        device = self._opened(row)
        self._ledger.reserve(row.user_id, method)
        step = device.totp.match(code, self._steps(work.now, device))
        if step is None:
            raise self._wrong(work, [device], code, method)
        # Accounts before factors: in that order nobody can deadlock.
        if work.users.lock(row.user_id).auth_epoch != row.enrollment_epoch:
            raise _over()
        drift = self._drift(work, device, step)
        confirmed = work.mfa_factors.confirm(row.id, step=step, drift=drift, now=work.now)
        if confirmed is None:
            raise _over()
        self._ledger.record(row.user_id, method, MfaOutcome.ACCEPTED, factor_id=row.id)
        return confirmed

    def verify(self, work: UnitOfWork, user_id: int, code: str) -> MfaFactor:
        """Spend a code of one of the account's devices and return the device."""
        method = MfaAttemptMethod.TOTP
        rows = work.mfa_factors.list_confirmed(user_id, FactorKind.TOTP)
        if not rows:
            raise MfaNotEnrolledError("the account has no authenticator app")
        # Opened first: a missing key is our failure and must not count as a wrong code.
        devices = [self._opened(row) for row in rows]
        restored_at = work.auth_state.restored_at()
        self._ledger.reserve(user_id, method)
        matches = [(one, one.totp.match(code, self._steps(work.now, one))) for one in devices]
        found = [(device, step) for device, step in matches if step is not None]
        if found:
            # Accounts before factors, because a session is to come of it; see ``users.lock``.
            work.users.lock(user_id)
        for device, step in found:
            # What was taken until a restore may not be known to have been spent.
            if restored_at is not None and step < self._steps(restored_at, device).stop:
                continue
            drift = self._drift(work, device, step)
            spent = work.mfa_factors.spend_step(
                device.row.id, user_id=user_id, step=step, drift=drift, now=work.now
            )
            if spent is not None:
                self._ledger.record(user_id, method, MfaOutcome.ACCEPTED, factor_id=spent.id)
                return spent
        if found:
            factor_id = found[0][0].row.id
            self._ledger.record(user_id, method, MfaOutcome.REUSED, factor_id=factor_id)
            raise CodeReusedError("this code was used before: wait for the next one")
        raise self._wrong(work, devices, code, method)

    def _shown(self, row: MfaFactor, totp: Totp, account: User) -> Enrollment:
        return Enrollment(
            id=row.id,
            label=row.label,
            secret=encode_secret(totp.secret),
            uri=totp.uri(issuer=self._settings.issuer, account=account.username),
            expires_at=row.enrollment_expires_at or row.created_at,
        )

    def _opened(self, row: MfaFactor) -> _Device:
        context = secret_context(row.user_id, row.id)
        secret = self._keyring.open(row.secret or b"", purpose=PURPOSE, context=context)
        algorithm, digits = row.algorithm or TotpAlgorithm.SHA1, row.digits or 6
        return _Device(row, Totp(secret, algorithm, digits, row.period_seconds or 30))

    def _steps(self, moment: datetime, device: _Device) -> range:
        """Return the steps whose codes are taken: those around a moment, as far as the drift."""
        now, drift = device.totp.step(moment), device.row.drift_steps
        window = self._settings.window
        return range(now + min(0, drift) - window, now + max(0, drift) + window + 1)

    def _drift(self, work: UnitOfWork, device: _Device, step: int) -> int:
        """Return the drift to remember: one step nearer to what was just seen, within bounds.

        Somebody who typed slowly once is not mistaken for a slow clock for long, and a code from
        far off cannot pull the window to itself.
        """
        seen, known = step - device.totp.step(work.now), device.row.drift_steps
        moved = known + (seen > known) - (seen < known)
        return max(-self._settings.drift, min(self._settings.drift, moved))

    def _wrong(
        self, work: UnitOfWork, devices: list[_Device], code: str, method: MfaAttemptMethod
    ) -> InvalidCodeError:
        """Record a code that was not taken and return what to say about it."""
        for device in devices:
            now = device.totp.step(work.now)
            step = device.totp.match(code, range(now - SKEW_STEPS, now + SKEW_STEPS + 1))
            if step is not None:
                outcome, factor_id = MfaOutcome.CLOCK_SKEW, device.row.id
                self._ledger.record(device.row.user_id, method, outcome, factor_id=factor_id)
                # A code that is still to come is not told from a wrong one: a guesser would know
                # what to send in a few minutes.
                return _skewed((now - step) * device.totp.period) if step < now else _wrong()
        self._ledger.record(devices[0].row.user_id, method, MfaOutcome.WRONG)
        return _wrong()


def _over() -> EnrollmentExpiredError:
    return EnrollmentExpiredError(
        "this enrolment ran out, was finished before, or the account changed: begin a new one"
    )


def _wrong() -> InvalidCodeError:
    return InvalidCodeError("the code is wrong")


def _skewed(seconds: int) -> ClockSkewError:
    return ClockSkewError(
        f"the code was right about {seconds} s ago: set the clock of the device to automatic",
        seconds_behind=seconds,
    )
