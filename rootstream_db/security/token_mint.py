"""Where tokens are made, and where one that comes back becomes the digest it is stored under."""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from rootstream_db.errors import ConfigurationError, InvalidTokenError
from rootstream_db.security.tokens import (
    ALPHABET,
    SECRET_LENGTH,
    SecretText,
    TokenKind,
    checksum,
    read_form,
    visible_prefix,
)

DIGEST_BYTES: Final = 32
"""Length of the digest a token is stored under."""

_LEAST_PEPPER_BYTES: Final = 32
_HIGHEST_VERSION: Final = 99

# A byte below 248 = 4 * 62 names a digit without bias; the other eight are thrown away.
_DIGIT_OF_BYTE: Final = bytes(ord(ALPHABET[byte % len(ALPHABET)]) for byte in range(256))
_BIASED_BYTES: Final = bytes(range(256 - 256 % len(ALPHABET), 256))
_DRAWN_BYTES: Final = 56


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token that was just made.

    Attributes:
        text: the token: shown to its owner this once.
        digest: what is stored in its place.
        version: the pepper the digest is made with.
    """

    text: SecretText
    digest: bytes = field(repr=False)
    version: int

    @property
    def prefix(self) -> str:
        """Return the start by which people recognise the token."""
        return visible_prefix(self.text)


class TokenMint:
    """Makes tokens, and the digests under which they are stored and found.

    A digest is HMAC-SHA256 under a pepper that is not in the database. Who can only read the
    database learns no token; who can only write it cannot plant one either. A salt would add
    nothing to 256 random bits.

    Peppers are numbered: one writes, the others still verify, and a token names its own.

    Args:
        peppers: keys of at least 32 bytes by version, 1 to 99.
        writes: the version that new tokens get; the highest unless given.

    Raises:
        ConfigurationError: ``writes`` names no pepper.
        ValueError: there is no pepper, or one is too short or wrongly numbered.
    """

    def __init__(self, peppers: Mapping[int, bytes], *, writes: int | None = None) -> None:
        if not peppers:
            raise ValueError("a mint needs a pepper")
        for version, pepper in peppers.items():
            if not 1 <= version <= _HIGHEST_VERSION:
                raise ValueError(f"versions of peppers are 1 to {_HIGHEST_VERSION}, not {version}")
            if len(pepper) < _LEAST_PEPPER_BYTES:
                raise ValueError(f"a pepper has at least {_LEAST_PEPPER_BYTES} bytes")
        self._peppers = dict(peppers)
        self._writes = max(peppers) if writes is None else writes
        if self._writes not in self._peppers:
            raise ConfigurationError(
                f"there is no pepper {self._writes} among {sorted(peppers)}",
                setting="security.issuing_pepper",
            )

    @property
    def version(self) -> int:
        """Return the version of the pepper that new tokens get."""
        return self._writes

    def derived_keys(self, purpose: str) -> dict[int, bytes]:
        """Return a key of 32 bytes for another purpose, for each pepper by version.

        No digest of a token is such a key: every token begins differently.
        """
        label = f"derived key: {purpose}".encode()
        return {
            version: hmac.digest(pepper, label, "sha256")
            for version, pepper in self._peppers.items()
        }

    def issue(self, kind: TokenKind) -> IssuedToken:
        """Return a new random token with its digest."""
        body = f"{kind.value}{self._writes}_{_random_digits()}"
        text = SecretText(body + checksum(body))
        return IssuedToken(text, self._digest(text, self._writes), self._writes)

    def digest(self, token: object, kind: TokenKind) -> bytes:
        """Return the digest under which a token is stored, if it is stored.

        Raises:
            InvalidTokenError: it has not the form or the checksum of a token, is of another kind,
                or names a pepper there is not; nothing was looked up.
        """
        form = read_form(token)
        if form.kind is not kind:
            raise InvalidTokenError("kind")
        if form.version not in self._peppers:
            raise InvalidTokenError("pepper")
        return self._digest(str(token), form.version)

    def _digest(self, text: str, version: int) -> bytes:
        return hmac.digest(self._peppers[version], text.encode("ascii"), "sha256")


def _random_digits() -> str:
    """Return 43 independent base62 digits from the system's random numbers."""
    digits = b""
    while len(digits) < SECRET_LENGTH:
        digits += os.urandom(_DRAWN_BYTES).translate(_DIGIT_OF_BYTE, _BIASED_BYTES)
    return digits[:SECRET_LENGTH].decode("ascii")
