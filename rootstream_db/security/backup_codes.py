"""Backup codes: ten words to write down, each good once when the phone is gone.

A code is ``S-XXXX-XXXX-XXXX``: a letter that says which of the ten it is, and 60 random bits in
Crockford's base 32. The letter is no secret. It picks the one hash to compare with, where a code
without it would be compared with all ten, each at the price of a password.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Final

from rootstream_db.security.tokens import SecretText

SLOTS: Final = "ABCDEFGHJK"
"""The letters of the codes; I is missing because it is read as 1."""

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no I, L, O and U."""

SECRET_LENGTH: Final = 12
"""Digits of 5 bits: 60 random bits. Under 112, so they are hashed like passwords (ASVS 6.5.2)."""

MOST_TYPED: Final = 64
"""Longer text is no code, however it is spaced."""

_GROUP: Final = 4
_CODE: Final = re.compile(f"[{SLOTS}][{ALPHABET}]{{{SECRET_LENGTH}}}")
_SPACING: Final = re.compile(r"[ \t-]")
_MISREAD: Final = str.maketrans("OIL", "011")


@dataclass(frozen=True, slots=True)
class BackupCode:
    """A code, taken apart."""

    slot: str
    secret: SecretText

    def __str__(self) -> str:
        groups = [self.secret[place : place + _GROUP] for place in range(0, SECRET_LENGTH, _GROUP)]
        return "-".join([self.slot, *groups])

    def shown(self) -> SecretText:
        """Return the code in the form in which its owner writes it down."""
        return SecretText(str(self))


def new_backup_codes() -> list[BackupCode]:
    """Return ten new random codes, one for each slot."""
    return [
        BackupCode(slot, SecretText("".join(map(secrets.choice, [ALPHABET] * SECRET_LENGTH))))
        for slot in SLOTS
    ]


def parse_backup_code(typed: object) -> BackupCode | None:
    """Return the code somebody typed, in any case and spacing, with O for 0 and I or L for 1.

    >>> parse_backup_code("b-7k3m qxt0 9w2L")
    BackupCode(slot='B', secret=SecretText('**********'))
    >>> parse_backup_code("swordfish") is None
    True
    """
    if not isinstance(typed, str) or len(typed) > MOST_TYPED or not typed.isascii():
        return None
    plain = _SPACING.sub("", typed).upper().translate(_MISREAD)
    if _CODE.fullmatch(plain) is None:
        return None
    return BackupCode(plain[0], SecretText(plain[1:]))
