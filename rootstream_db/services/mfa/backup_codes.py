"""Backup codes: made ten at a time, shown once, each good once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rootstream_db.errors import CodeReusedError, InvalidCodeError
from rootstream_db.models.mfa import MfaAttemptMethod, MfaOutcome
from rootstream_db.security.backup_codes import new_backup_codes, parse_backup_code
from rootstream_db.security.keyring import row_context

if TYPE_CHECKING:
    from rootstream_db.security.keyring import KeyRing
    from rootstream_db.security.passwords import PasswordHasher
    from rootstream_db.security.tokens import SecretText
    from rootstream_db.services.mfa.attempts import AttemptLedger
    from rootstream_db.unit_of_work import UnitOfWork

PURPOSE: Final = "mfa.backup_code"
"""What the data key of the codes' hashes is derived for."""


class BackupCodes:
    """Makes backup codes and spends them.

    Hashes are sealed with the key ring, bound to account and slot: who can only write to the
    database cannot plant a code of their own. Nothing is locked while a code is hashed; what was
    compared is spent by a statement that finds it only if it is still there and unused.
    """

    def __init__(self, hasher: PasswordHasher, keyring: KeyRing, ledger: AttemptLedger) -> None:
        self._hasher = hasher
        self._keyring = keyring
        self._ledger = ledger

    def generate(self, work: UnitOfWork, user_id: int) -> tuple[SecretText, ...]:
        """Put ten new codes in the place of the account's earlier ones and return them."""
        codes = new_backup_codes()
        sealed = {
            code.slot: self._keyring.seal(
                self._hasher.hash(str(code)).encode(),
                purpose=PURPOSE,
                context=_context(user_id, code.slot),
            )
            for code in codes
        }
        key_id = self._keyring.key_id(sealed[codes[0].slot])
        work.recovery_codes.replace(user_id, sealed, key_id=key_id)
        return tuple(code.shown() for code in codes)

    def consume(self, work: UnitOfWork, user_id: int, typed: str) -> str:
        """Spend a code and return its slot."""
        method = MfaAttemptMethod.BACKUP_CODE
        rows = {row.slot: row for row in work.recovery_codes.list_by_user(user_id)}
        # All of them, and first: a missing key is our failure and must not count as a wrong code.
        hashes = {slot: self._opened(user_id, slot, rows[slot].code_hash) for slot in rows}
        self._ledger.reserve(user_id, method)
        code = parse_backup_code(typed)
        slot = code.slot if code is not None else ""
        # Without a code or a row the same work is done, so that time does not tell of them.
        matches = self._hasher.verify(hashes.get(slot), str(code) if code is not None else "")
        if slot not in rows or not matches:
            self._ledger.record(user_id, method, MfaOutcome.WRONG)
            raise InvalidCodeError("the backup code is wrong")
        # Accounts before codes, because a session is to come of it; see ``users.lock``.
        work.users.lock(user_id)
        if work.recovery_codes.spend(rows[slot].id, now=work.now) is None:
            self._ledger.record(user_id, method, MfaOutcome.REUSED)
            raise CodeReusedError("this backup code was used before: take another one")
        self._ledger.record(user_id, method, MfaOutcome.ACCEPTED)
        return slot

    def _opened(self, user_id: int, slot: str, sealed: bytes) -> str:
        context = _context(user_id, slot)
        return self._keyring.open(sealed, purpose=PURPOSE, context=context).decode()


def _context(user_id: int, slot: str) -> bytes:
    return row_context("mfa_recovery_codes", user_id, slot)
