"""Settings of the secrets that everything else rests on: token peppers and master keys."""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import logging
import re
from collections.abc import Callable
from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, SecretStr

from rootstream_db.errors import ConfigurationError
from rootstream_db.settings.section import Section

Keys: TypeAlias = dict[int, bytes]
"""Keys by number; the highest number is the one that writes."""

KEY_BYTES: Final = 32
"""Length of a master key (AES-256) and least length of a pepper."""

MOST_PEPPERS: Final = 99
"""Highest version of a pepper: tokens carry it in one or two digits."""

MOST_MASTER_KEYS: Final = 32_767
"""Highest number of a master key: rows carry it in a ``smallint``."""

_NUMBERED: Final = re.compile(r"(?P<number>[1-9][0-9]{0,4}):(?P<key>[0-9A-Za-z+/_-]+={0,2})")
_STANDARD_ALPHABET: Final = str.maketrans("-_", "+/")
_log = logging.getLogger(__name__)


def parse_keys(text: str, *, most: int, exactly: int | None = None) -> Keys:
    """Read ``1:<base64>,2:<base64>``, the form in which numbered keys are configured.

    Args:
        text: the keys; both alphabets of base64 are understood.
        most: the highest number allowed.
        exactly: how many bytes each key has; None: at least ``KEY_BYTES``.

    Raises:
        ValueError: saying which key is wrong, never what it is.
    """
    keys: Keys = {}
    for place, part in enumerate(text.replace(",", " ").split(), start=1):
        match = _NUMBERED.fullmatch(part)
        if match is None:
            raise ValueError(f"key {place} is not of the form <number>:<base64>")
        number = int(match["number"])
        if number > most:
            raise ValueError(f"key {place}: numbers go up to {most}")
        if number in keys:
            raise ValueError(f"the number {number} is given twice")
        keys[number] = _decoded(match["key"], place, exactly=exactly)
    if not keys:
        raise ValueError("there is no key; write <number>:<base64>")
    return keys


def _decoded(text: str, place: int, *, exactly: int | None) -> bytes:
    digits = text.rstrip("=").translate(_STANDARD_ALPHABET)
    try:
        key = base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except binascii.Error:
        raise ValueError(f"key {place} is not base64") from None
    if exactly is not None and len(key) != exactly:
        raise ValueError(f"key {place} has {len(key)} bytes, not {exactly}")
    if len(key) < KEY_BYTES:
        raise ValueError(f"key {place} has {len(key)} bytes, at least {KEY_BYTES} are needed")
    return key


def parse_peppers(text: str) -> Keys:
    """Read token peppers, each of 32 bytes or more."""
    return parse_keys(text, most=MOST_PEPPERS)


def parse_master_keys(text: str) -> Keys:
    """Read master keys, each of exactly 32 bytes."""
    return parse_keys(text, most=MOST_MASTER_KEYS, exactly=KEY_BYTES)


def _checked_by(parse: Callable[[str], Keys]) -> AfterValidator:
    def check(value: SecretStr) -> SecretStr:
        parse(value.get_secret_value())
        return value

    return AfterValidator(check)


class SecuritySettings(Section):
    """The secrets that tokens and stored secrets are protected with.

    Both are numbered so that they can be changed without an interruption: add one with a higher
    number, which from then on writes; keep the old one until nothing made with it is left.
    """

    environment: Literal["development", "production"] = Field(
        default="development", description="In production missing keys are an error."
    )
    token_peppers: Annotated[SecretStr, _checked_by(parse_peppers)] | None = Field(
        default=None, description="Keys of the digests of tokens: 1:<base64 of 32 bytes>,2:…"
    )
    issuing_pepper: int | None = Field(
        default=None,
        ge=1,
        le=MOST_PEPPERS,
        description="Version of the pepper that new tokens get; default: the highest. Name the old "
        "one until every process knows the new one.",
    )
    master_keys: Annotated[SecretStr, _checked_by(parse_master_keys)] | None = Field(
        default=None, description="Keys that encrypt stored secrets: 1:<base64 of 32 bytes>,2:…"
    )
    sealing_key: int | None = Field(
        default=None,
        ge=1,
        le=MOST_MASTER_KEYS,
        description="Number of the master key that encrypts; default: the highest. Name the old "
        "one until every process knows the new one.",
    )

    def peppers(self) -> Keys:
        """Return the token peppers by version.

        Raises:
            ConfigurationError: there are none and this is production.
        """
        return self._keys("token_peppers", self.token_peppers, parse_peppers)

    def masters(self) -> Keys:
        """Return the master keys by number.

        Raises:
            ConfigurationError: there are none and this is production.
        """
        return self._keys("master_keys", self.master_keys, parse_master_keys)

    def or_else(self, *, token_peppers: SecretStr, master_keys: SecretStr) -> Self:
        """Return these settings with the given keys where there are none."""
        return self.model_copy(
            update={
                "token_peppers": self.token_peppers or token_peppers,
                "master_keys": self.master_keys or master_keys,
            }
        )

    def _keys(self, name: str, secret: SecretStr | None, parse: Callable[[str], Keys]) -> Keys:
        if secret is not None:
            return parse(secret.get_secret_value())
        variable = f"ROOTSTREAM_SECURITY__{name.upper()}"
        if self.environment == "production":
            raise ConfigurationError(
                f"security.{name} is not set, which production needs: put 1:<base64 of 32 random "
                f"bytes> into a file and name the file in {variable}_FILE",
                setting=f"security.{name}",
            )
        _warn_once(name, variable)
        return {1: hashlib.sha256(f"rootstream-db development {name}".encode()).digest()}


@functools.cache
def _warn_once(name: str, variable: str) -> None:
    _log.warning(
        "security.%s is not set: a key that everybody knows is used, which is for development "
        "only; set %s and ROOTSTREAM_SECURITY__ENVIRONMENT=production",
        name,
        variable,
    )
