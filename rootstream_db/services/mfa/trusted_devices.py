"""Trusted devices: a token in place of the second factor, for a while, on one device."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from rootstream_db.errors import (
    DeviceNotTrustedError,
    InvalidTokenError,
    NotFoundError,
    PermissionDeniedError,
)
from rootstream_db.models.mfa import MfaAttemptMethod, MfaOutcome, TrustedDevice
from rootstream_db.security.assurance import MfaMethod, MfaProof
from rootstream_db.security.tokens import TokenKind
from rootstream_db.services.mfa.rules import check_label
from rootstream_db.services.mfa.values import Device, IssuedDevice

if TYPE_CHECKING:
    from rootstream_db.models import User
    from rootstream_db.security.token_mint import TokenMint
    from rootstream_db.services.mfa.attempts import AttemptLedger
    from rootstream_db.services.mfa.changes import FactorChanges
    from rootstream_db.settings import MfaSettings
    from rootstream_db.unit_of_work import UnitOfWork

MAX_AGE: Final = timedelta(minutes=10)
"""How long after a second factor was checked a device can be trusted on the strength of it."""


class TrustedDevices:
    """Trusts devices, and takes their tokens.

    A device is trusted for one account, until its time is up, and only within the epoch of the
    account: a new password or a changed factor ends the trust of all of them. Its token has 256
    random bits, so nobody guesses it and nothing needs to be counted.
    """

    def __init__(
        self, settings: MfaSettings, mint: TokenMint, ledger: AttemptLedger, changes: FactorChanges
    ) -> None:
        self._settings = settings
        self._mint = mint
        self._ledger = ledger
        self._changes = changes

    def trust(
        self, work: UnitOfWork, user: User, proof: MfaProof, *, label: str = "Trusted device"
    ) -> IssuedDevice:
        """Trust the device on which the account's second factor was just checked.

        The least recently used ones make room when the account has too many.

        Raises:
            PermissionDeniedError: the proof is another account's, is too old, or is itself that of
                a trusted device, which would make its trust endless.
            ValidationError: the label cannot be printed.
        """
        if not _vouches(proof, user.id, work):
            raise PermissionDeniedError("a device is trusted right after a second factor")
        name = check_label(label)
        account = work.users.lock(user.id)
        issued = self._mint.issue(TokenKind.TRUSTED_DEVICE)
        row = work.trusted_devices.add(
            TrustedDevice(
                user_id=account.id,
                token_hash=issued.digest,
                label=name,
                auth_epoch=account.auth_epoch,
                generation=work.trusted_devices.current_generation(),
                last_used_at=work.now,
                expires_at=work.now + self._settings.trusted_device_ttl,
            )
        )
        work.trusted_devices.revoke_beyond(account.id, self._settings.max_trusted_devices)
        self._changes.record(work, account, "DeviceTrusted", {"device_id": row.id}, label=name)
        return IssuedDevice(device=Device.of(row), token=issued.text)

    def verify(self, work: UnitOfWork, user_id: int, token: str) -> TrustedDevice:
        """Take the token of one of the account's trusted devices."""
        method = MfaAttemptMethod.TRUSTED_DEVICE
        try:
            digest = self._mint.digest(token, TokenKind.TRUSTED_DEVICE)
        except InvalidTokenError:
            self._ledger.record(user_id, method, MfaOutcome.WRONG)
            raise
        # Accounts before devices, because a session is to come of it; see ``users.lock``.
        work.users.lock(user_id)
        device = work.trusted_devices.use(digest, user_id=user_id, now=work.now)
        if device is None:
            self._ledger.record(user_id, method, MfaOutcome.WRONG)
            raise DeviceNotTrustedError("this device is not trusted any more: use a second factor")
        self._ledger.record(user_id, method, MfaOutcome.ACCEPTED)
        return device

    def list(self, work: UnitOfWork, user_id: int) -> tuple[Device, ...]:
        """Return the account's trusted devices, the last used one first."""
        return tuple(
            Device.of(row) for row in work.trusted_devices.list_by_user(user_id, now=work.now)
        )

    def revoke(self, work: UnitOfWork, user: User, device_id: int) -> None:
        """Trust one of the account's devices no more."""
        row = work.trusted_devices.revoke(device_id, user_id=user.id)
        if row is None:
            raise NotFoundError("trusted device", device_id)
        data = {"device_id": row.id}
        self._changes.record(work, user, "DeviceDistrusted", data, label=row.label)


def _vouches(proof: MfaProof, user_id: int, work: UnitOfWork) -> bool:
    fresh = work.now - proof.verified_at <= MAX_AGE
    return fresh and proof.user_id == user_id and proof.method is not MfaMethod.TRUSTED_DEVICE
