"""Bearer tokens: made from 256 random bits, shown once, stored as a digest.

The form of a token is ``<prefix>_<43 base62 digits><6 base62 digits>``, for example
``rsk_4fXo…``: the prefix says what the token is for, the 43 digits are the secret, the last 6 are
the CRC-32 of everything before them. A double click selects the whole token, a secret scanner
finds it with ``rs[a-z]_[0-9A-Za-z]{49}``, and a mistyped or made-up one is refused by
``looks_like`` before anything is looked up. Prefixes in use: ``rsk`` publishes a stream, ``rsv``
verifies an e-mail address, ``rsr`` resets a password, ``rss`` is a login session.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib
from typing import TypeGuard

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
"""The digits of base 62, the form secret scanners and double clicks take whole."""

SECRET_BITS = 256
"""Random bits in a token; OWASP ASVS 5.0 7.2.3 asks for at least 128."""

SECRET_LENGTH = 43
"""Base62 digits that hold ``SECRET_BITS``: 62**43 > 2**256."""

CHECKSUM_LENGTH = 6
"""Base62 digits that hold a CRC-32: 62**6 > 2**32."""

VISIBLE_SECRET_LENGTH = 4
"""Secret digits that may be shown; the 232 bits that remain cannot be guessed."""

_PREFIX = re.compile(r"[a-z][a-z0-9]{1,7}", re.ASCII)


class SecretText(str):
    """Text that must not end up in a log: it works as ``str``, only its ``repr`` is masked.

    >>> key = SecretText("rsk_secret")
    >>> key
    SecretText('**********')
    >>> f"{key}"
    'rsk_secret'
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "SecretText('**********')"


def new_token(prefix: str) -> SecretText:
    """Return a new random token that starts with ``prefix`` and an underscore.

    Raises:
        ValueError: the prefix is not 2 to 8 lower-case letters and digits.
    """
    if _PREFIX.fullmatch(prefix) is None:
        raise ValueError(f"a token prefix is 2 to 8 lower-case letters and digits, not {prefix!r}")
    body = f"{prefix}_{_base62(secrets.randbits(SECRET_BITS), SECRET_LENGTH)}"
    return SecretText(body + _checksum(body))


def looks_like(token: object, prefix: str) -> TypeGuard[str]:
    """Whether ``token`` has the form and the checksum of a token with that prefix.

    True says nothing about whether the token was ever issued. The checksum is no secret: it
    saves a look-up for garbage, it does not stop somebody who knows the form.
    """
    if not isinstance(token, str) or len(token) != token_length(prefix):
        return False
    body, checksum = token[:-CHECKSUM_LENGTH], token[-CHECKSUM_LENGTH:]
    secret = token[len(prefix) + 1 :]
    if not (token.startswith(f"{prefix}_") and secret.isascii() and secret.isalnum()):
        return False
    return checksum == _checksum(body)


def token_length(prefix: str) -> int:
    """Return the length of every token with that prefix."""
    return len(prefix) + 1 + SECRET_LENGTH + CHECKSUM_LENGTH


def token_hash(token: str) -> bytes:
    """Return the 32 bytes under which the token is stored and found.

    Every stored token goes through here, so that a keyed digest can take the place of SHA-256
    without a change elsewhere. A salt would add nothing to 256 random bits.
    """
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def visible_prefix(token: str) -> str:
    """Return the start of the token by which a person recognises it, at most 13 characters.

    >>> visible_prefix("rsk_4fXoQz81…")
    'rsk_4fXo'
    """
    prefix, separator, secret = token.partition("_")
    return f"{prefix[:8]}{separator}{secret[:VISIBLE_SECRET_LENGTH]}"


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), CHECKSUM_LENGTH)
