"""Backup codes: made ten at a time, shown once, each good once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootstream_db.errors import CodeReusedError, InvalidCodeError
from rootstream_db.models.mfa import MfaAttemptMethod, MfaOutcome
from rootstream_db.security.backup_codes import new_backup_codes, parse_backup_code

if TYPE_CHECKING:
    from rootstream_db.security.passwords import PasswordHasher
    from rootstream_db.security.tokens import SecretText
    from rootstream_db.services.mfa.attempts import AttemptLedger
    from rootstream_db.unit_of_work import UnitOfWork


class BackupCodes:
    """Makes backup codes and spends them.

    Nothing is locked while a code is hashed; what was compared is spent by a statement that finds
    it only if it is still there and unused.
    """

    def __init__(self, hasher: PasswordHasher, ledger: AttemptLedger) -> None:
        self._hasher = hasher
        self._ledger = ledger

    def generate(self, work: UnitOfWork, user_id: int) -> tuple[SecretText, ...]:
        """Put ten new codes in the place of the account's earlier ones and return them."""
        codes = new_backup_codes()
        hashes = {code.slot: self._hasher.hash(str(code)) for code in codes}
        work.recovery_codes.replace(user_id, hashes)
        return tuple(code.shown() for code in codes)

    def consume(self, work: UnitOfWork, user_id: int, typed: str) -> str:
        """Spend a code and return its slot."""
        method = MfaAttemptMethod.BACKUP_CODE
        self._ledger.reserve(user_id, method)
        code = parse_backup_code(typed)
        row = work.recovery_codes.find(user_id, code.slot) if code is not None else None
        # Without a code or a row the same work is done, so that time does not tell of them.
        stored = row.code_hash if row is not None else None
        matches = self._hasher.verify(stored, str(code) if code is not None else "")
        if row is None or not matches:
            self._ledger.record(user_id, method, MfaOutcome.WRONG)
            raise InvalidCodeError("the backup code is wrong")
        # Accounts before codes, because a session is to come of it; see ``users.lock``.
        work.users.lock(user_id)
        if work.recovery_codes.spend(row.id, now=work.now) is None:
            self._ledger.record(user_id, method, MfaOutcome.REUSED)
            raise CodeReusedError("this backup code was used before: take another one")
        self._ledger.record(user_id, method, MfaOutcome.ACCEPTED)
        return row.slot
