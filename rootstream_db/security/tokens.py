"""The form of bearer tokens: what they look like, what is garbage, how they are shown.

A token is ``rs<kind><version>_<43 base62 digits><6 base62 digits>``, for example ``rsk1_4fXo…``.
The kind says what it is for, the version which pepper its digest is made with, the 43 digits are
256 random bits, and the last 6 are the CRC-32 of everything before them. A double click selects
the whole token, a secret scanner finds it with ``SCAN_PATTERN``, and a mistyped or made-up one is
refused before anything is looked up. ``TokenMint`` makes tokens and their digests.
"""

from __future__ import annotations

import re
import string
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final, Literal

from rootstream_db.errors import InvalidTokenError

ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
"""The digits of base 62, the form secret scanners and double clicks take whole."""

SECRET_LENGTH: Final = 43
"""Random base62 digits in a token: 62**43 > 2**256. ASVS 5.0 7.2.3 asks for 128 bits."""

CHECKSUM_LENGTH: Final = 6
"""Base62 digits that hold a CRC-32: 62**6 > 2**32."""

VISIBLE_SECRET_LENGTH: Final = 4
"""Secret digits that may be shown; the 232 bits that remain cannot be guessed."""

SCAN_PATTERN: Final = r"rs[a-z][1-9][0-9]?_[0-9A-Za-z]{49}\b"
"""What every token looks like, in the syntax that all secret scanners share (RE2, PCRE, Python)."""

_FORM: Final = re.compile(
    r"(?P<kind>rs[a-z])(?P<version>[1-9][0-9]?)_[0-9A-Za-z]{43}(?P<checksum>[0-9A-Za-z]{6})"
)
_SCAN: Final = re.compile(SCAN_PATTERN)
_SHORTEST: Final = len("rss1_") + SECRET_LENGTH + CHECKSUM_LENGTH
_PAIRS: Final = tuple(high + low for high in ALPHABET for low in ALPHABET)


class TokenKind(StrEnum):
    """What a token is for; the value is how it begins."""

    SESSION = "rss"
    """A login session."""
    STREAM_KEY = "rsk"
    """Publishing a stream."""
    API_KEY = "rsa"
    """A program that acts for somebody."""
    VERIFY_EMAIL = "rsv"
    """Proving an e-mail address."""
    RESET_PASSWORD = "rsr"  # noqa: S105 - a prefix, not a password
    """Choosing a new password."""
    TRUSTED_DEVICE = "rsd"
    """A device that is remembered."""
    MFA_CHALLENGE = "rsm"
    """A login that still owes its second factor."""


class SecretText(str):
    """Text that must not end up in a log: it works as ``str``, only its ``repr`` is masked.

    >>> key = SecretText("rsk1_secret")
    >>> key
    SecretText('**********')
    >>> f"{key}"
    'rsk1_secret'
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "SecretText('**********')"


@dataclass(frozen=True, slots=True)
class TokenForm:
    """What a well-formed token says about itself.

    Attributes:
        kind: what it is for.
        version: which pepper its digest is made with.
    """

    kind: TokenKind
    version: int


def read_form(token: object) -> TokenForm:
    """Return what a token says about itself; that it was ever issued is another question.

    However long or odd the input is, the answer takes a few microseconds. The checksum is no
    secret: it saves a look-up for garbage, it does not stop somebody who knows the form.

    Raises:
        InvalidTokenError: it has not the form of a token.
    """
    if not isinstance(token, str) or not _SHORTEST <= len(token) <= _SHORTEST + 1:
        raise _refused("shape")
    match = _FORM.fullmatch(token)
    if match is None:
        raise _refused("shape")
    if match["checksum"] != checksum(token[:-CHECKSUM_LENGTH]):
        raise _refused("checksum")
    return _form(match["kind"], match["version"])


@lru_cache(maxsize=64)
def _form(kind: str, version: str) -> TokenForm:
    """Return the form, made once for each kind and version: it is asked for at every request."""
    try:
        return TokenForm(TokenKind(kind), int(version))
    except ValueError:
        raise _refused("kind") from None


def find_tokens(text: str) -> Iterator[SecretText]:
    """Yield the tokens in a text, as a secret scanner would; look-alikes fail their checksum."""
    for match in _SCAN.finditer(text):
        if match[0][-CHECKSUM_LENGTH:] == checksum(match[0][:-CHECKSUM_LENGTH]):
            yield SecretText(match[0])


def checksum(body: str) -> str:
    """Return the six digits that end a token which begins with ``body``."""
    number, low = divmod(zlib.crc32(body.encode("ascii")), len(_PAIRS))
    high, middle = divmod(number, len(_PAIRS))
    return _PAIRS[high] + _PAIRS[middle] + _PAIRS[low]


def visible_prefix(token: str) -> str:
    """Return the start of the token by which a person recognises it, at most 13 characters.

    >>> visible_prefix("rsk1_4fXoQz81…")
    'rsk1_4fXo'
    """
    prefix, separator, secret = token.partition("_")
    return f"{prefix[:8]}{separator}{secret[:VISIBLE_SECRET_LENGTH]}"


def _refused(reason: Literal["shape", "checksum", "kind"]) -> InvalidTokenError:
    return InvalidTokenError(reason)
