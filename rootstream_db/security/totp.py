"""One-time codes: HOTP (RFC 4226) and TOTP (RFC 6238), as every authenticator app makes them.

A match is answered with the step it was made for, never with yes or no: to spend a code, its step
has to be written down, and a code is good only if its step is newer than the last one written.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final
from urllib.parse import quote, urlencode

from rootstream_db.security.tokens import SecretText

MIN_SECRET_BYTES: Final = 16
"""Shortest shared secret (RFC 4226 section 4, R6)."""

MAX_SECRET_BYTES: Final = 128
"""More than a block of SHA-512 adds nothing: HMAC would hash it down."""

_DIGITS: Final = re.compile(r"[0-9]+", re.ASCII)


class TotpAlgorithm(StrEnum):
    """The hash under a code; apps that do not say which ones they know, know SHA-1."""

    SHA1 = "SHA1"
    SHA256 = "SHA256"
    SHA512 = "SHA512"

    @property
    def secret_bytes(self) -> int:
        """Length of a new secret: that of the hash (RFC 6238 section 3, R6)."""
        return {"SHA1": 20, "SHA256": 32, "SHA512": 64}[self.value]


def hotp(
    secret: bytes, counter: int, *, digits: int = 6, algorithm: TotpAlgorithm = TotpAlgorithm.SHA1
) -> str:
    """Return the code of a counter.

    >>> hotp(b"12345678901234567890", 0)
    '755224'
    """
    mac = hmac.digest(secret, counter.to_bytes(8, "big"), algorithm.value)
    offset = mac[-1] & 0x0F
    number = int.from_bytes(mac[offset : offset + 4], "big") & 0x7FFFFFFF
    return str(number % 10**digits).zfill(digits)


def is_code(code: object, digits: int) -> bool:
    """Whether something has the form of a code: that many digits of ASCII, nothing else."""
    # Python's own isdigit() and int() take the digits of every script.
    return isinstance(code, str) and len(code) == digits and _DIGITS.fullmatch(code) is not None


@dataclass(frozen=True, slots=True)
class Totp:
    """What an authenticator app and we share."""

    secret: bytes = field(repr=False)
    algorithm: TotpAlgorithm = TotpAlgorithm.SHA1
    digits: int = 6
    period: int = 30

    def step(self, moment: datetime) -> int:
        """Return the time step that a moment lies in."""
        return int(moment.timestamp()) // self.period

    def code(self, step: int) -> str:
        """Return the code of a time step."""
        return hotp(self.secret, step, digits=self.digits, algorithm=self.algorithm)

    def match(self, code: object, steps: range) -> int | None:
        """Return the newest of ``steps`` whose code this is, or None.

        The work is the same whichever step matches, and if none does.
        """
        given = str(code).encode() if is_code(code, self.digits) else b""
        found = None
        for step in steps:
            if hmac.compare_digest(given, self.code(step).encode()):
                found = step
        return found

    def uri(self, *, issuer: str, account: str) -> SecretText:
        """Return what the QR code of an enrolment holds, in the form all apps read.

        It is the Key URI Format of Google Authenticator: ``otpauth://totp/issuer:account?secret=…``.
        What is the apps' default is left out, because some do not expect it.
        """
        parameters: dict[str, str | int] = {"secret": encode_secret(self.secret), "issuer": issuer}
        if self.algorithm is not TotpAlgorithm.SHA1:
            parameters["algorithm"] = self.algorithm.value
        parameters |= {
            name: value
            for name, value, default in (("digits", self.digits, 6), ("period", self.period, 30))
            if value != default
        }
        label = f"{quote(issuer, safe='')}:{quote(account, safe='@')}"
        return SecretText(f"otpauth://totp/{label}?{urlencode(parameters, quote_via=quote)}")


def new_secret(algorithm: TotpAlgorithm = TotpAlgorithm.SHA1) -> bytes:
    """Return a new random shared secret, as long as the hash."""
    return secrets.token_bytes(algorithm.secret_bytes)


def encode_secret(secret: bytes) -> SecretText:
    """Return a secret as people type it into an app: base 32 without padding."""
    return SecretText(base64.b32encode(secret).decode().rstrip("="))


def decode_secret(text: str) -> bytes:
    """Return the secret somebody wrote in base 32, with or without spaces, padding and capitals.

    Raises:
        ValueError: it is no base 32, or has not 16 to 128 bytes.
    """
    plain = re.sub(r"[\s-]", "", text).rstrip("=").upper()
    try:
        secret = base64.b32decode(plain + "=" * (-len(plain) % 8))
    except (binascii.Error, ValueError):
        raise ValueError("a shared secret is base 32: the letters A to Z and 2 to 7") from None
    if not MIN_SECRET_BYTES <= len(secret) <= MAX_SECRET_BYTES:
        raise ValueError(
            f"a shared secret has {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes, not {len(secret)}"
        )
    return secret
