"""The key ring: secrets sealed so that only this ring opens them, and only in their own place.

A sealed value is ``0x01 ‖ key id (2 bytes) ‖ nonce (12 bytes) ‖ AES-256-GCM(plaintext) ‖ tag``. The
data key is HKDF-SHA256 of a master key, another one for each purpose. The purpose and the row a
value belongs to are authenticated with it: copied to another row or column it does not open. Random
nonces of 96 bits are safe for 2**32 values under one key and purpose; rotate before.
"""

from __future__ import annotations

import logging
import math
import secrets
import struct
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Final, NoReturn, TypeAlias

from rootstream_db.errors import (
    ConfigurationError,
    SealBrokenError,
    UnknownKeyError,
    ValidationError,
)
from rootstream_db.settings.security import KEY_BYTES, MOST_MASTER_KEYS, SecuritySettings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_IDS: Final = range(1, MOST_MASTER_KEYS + 1)
"""Ids a master key may have."""

REFRESH_SECONDS: Final = 60.0
"""How old the answer of a key source may be before it is asked again."""

KeySource: TypeAlias = Callable[[], Mapping[int, bytes]]
"""Returns the master keys by id: from a file, or from a key management service."""

_SETTING: Final = "security.master_keys"
_FORMAT: Final = 1
_HEADER: Final = struct.Struct(">BH")
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_OVERHEAD: Final = _HEADER.size + _NONCE_BYTES + _TAG_BYTES
_LENGTH: Final = struct.Struct(">I")
# A value under an unknown id makes the ring ask its source; forged ones must not make it a storm.
_ASK_AGAIN_SECONDS: Final = 1.0

_logger: Final = logging.getLogger(__name__)


class KeyRing:
    """Seals and opens small secrets under master keys that are known by number.

    With a source instead of a mapping, the ring asks again when it meets a key id it does not know,
    and every minute: a key that was added elsewhere is found without a restart.

    Args:
        masters: 32 random bytes for each key id, or a function that returns them.
        writer: the id of the key that seals; default: the highest. Name an older one while not
            every process knows the new one.
    """

    def __init__(
        self, masters: Mapping[int, bytes] | KeySource, *, writer: int | None = None
    ) -> None:
        self._source = masters if callable(masters) else None
        self._wanted_writer = writer
        self._lock = threading.Lock()
        self._known: _Keys | None = None
        self._asked_at = self._fresh_until = -math.inf
        if not callable(masters):
            self._known = _Keys(masters, writer)
            self._fresh_until = math.inf

    def __repr__(self) -> str:
        known = self._known
        return f"KeyRing({known!r})" if known is not None else "KeyRing(not asked yet)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key ring is not pickled: it would carry the keys along")

    @property
    def key_ids(self) -> tuple[int, ...]:
        """The ids of the keys that open, in order."""
        return self._keys().ids

    @property
    def writer(self) -> int:
        """The id of the key that seals."""
        return self._keys().writer

    def seal(self, plaintext: bytes, *, purpose: str, context: bytes) -> bytes:
        """Return ``plaintext`` sealed under the writing key.

        Args:
            plaintext: the secret.
            purpose: what it is for; a constant of the calling code, which gets a data key for it.
            context: where it belongs, from ``row_context``.
        """
        keys = self._keys()
        header = _HEADER.pack(_FORMAT, keys.writer)
        nonce = secrets.token_bytes(_NONCE_BYTES)
        cipher = keys.cipher(keys.writer, purpose)
        return header + nonce + cipher.encrypt(nonce, plaintext, _bound(header, purpose, context))

    def open(self, sealed: bytes, *, purpose: str, context: bytes) -> bytes:
        """Return what was sealed for that purpose and in that context.

        Raises:
            UnknownKeyError: the key it was sealed under is not in the ring.
            SealBrokenError: it was changed, cut, or sealed for another place.
        """
        from cryptography.exceptions import InvalidTag

        key_id = self.key_id(sealed)
        cipher = self._keys_with(key_id).cipher(key_id, purpose)
        header = sealed[: _HEADER.size]
        nonce = sealed[_HEADER.size : _HEADER.size + _NONCE_BYTES]
        content = sealed[_HEADER.size + _NONCE_BYTES :]
        try:
            return cipher.decrypt(nonce, content, _bound(header, purpose, context))
        except InvalidTag:
            raise SealBrokenError from None

    @staticmethod
    def key_id(sealed: bytes) -> int:
        """Return the id of the key that a value was sealed under.

        Raises:
            SealBrokenError: it is no sealed value.
        """
        if len(sealed) < _OVERHEAD or sealed[0] != _FORMAT:
            raise SealBrokenError
        key_id: int = _HEADER.unpack_from(sealed)[1]
        return key_id

    def refresh(self) -> None:
        """Ask the source for the keys now.

        Raises:
            ConfigurationError: what it answers is no set of master keys.
        """
        with self._lock:
            self._ask()

    def _keys(self) -> _Keys:
        known = self._known
        if known is not None and time.monotonic() < self._fresh_until:
            return known
        with self._lock:
            if self._known is None:
                self._ask()
            elif time.monotonic() >= self._fresh_until:
                self._ask_or_go_on()
            return self._required()

    def _keys_with(self, key_id: int) -> _Keys:
        keys = self._keys()
        if key_id in keys.ids:
            return keys
        with self._lock:
            if time.monotonic() - self._asked_at >= _ASK_AGAIN_SECONDS:
                self._ask_or_go_on()
            keys = self._required()
        if key_id not in keys.ids:
            raise UnknownKeyError(key_id, known=keys.ids)
        return keys

    def _required(self) -> _Keys:
        if self._known is None:
            raise ConfigurationError("the key ring has no key", setting=_SETTING)
        return self._known

    def _ask_or_go_on(self) -> None:
        """Ask the source; while it is out of reach, the keys it gave before go on working."""
        try:
            self._ask()
        except Exception:
            _logger.exception("the master keys could not be read again")
            self._fresh_until = time.monotonic() + REFRESH_SECONDS

    def _ask(self) -> None:
        if self._source is None:
            return
        self._asked_at = time.monotonic()
        self._known = _Keys(self._source(), self._wanted_writer)
        self._fresh_until = time.monotonic() + REFRESH_SECONDS


class _Keys:
    """What a source answered once, and the ciphers made of it; only the ciphers are added to."""

    def __init__(self, masters: Mapping[int, bytes], writer: int | None) -> None:
        self._masters = _checked(masters)
        self._ciphers: dict[tuple[int, str], AESGCM] = {}
        self.ids = tuple(self._masters)
        self.writer = self.ids[-1] if writer is None else writer
        if self.writer not in self.ids:
            raise ConfigurationError(
                f"key {writer} is to seal, but the ring has {', '.join(map(str, self.ids))}",
                setting=_SETTING,
            )

    def __repr__(self) -> str:
        return f"keys {', '.join(map(str, self.ids))}; {self.writer} seals"

    def cipher(self, key_id: int, purpose: str) -> AESGCM:
        """Return the cipher of a purpose under a key."""
        # Deriving costs many times what sealing does: one object for each key and purpose.
        cipher = self._ciphers.get((key_id, purpose))
        if cipher is None:
            # 7 MiB that readers of events do without.
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
            from cryptography.hazmat.primitives.hashes import SHA256
            from cryptography.hazmat.primitives.kdf.hkdf import HKDF

            derived = HKDF(SHA256(), KEY_BYTES, salt=None, info=purpose.encode())
            cipher = AESGCM(derived.derive(self._masters[key_id]))
            self._ciphers[key_id, purpose] = cipher
        return cipher


@cache
def development_keyring() -> KeyRing:
    """Return the key ring of development, for parts that nobody gave another one."""
    return KeyRing(SecuritySettings().masters())


def row_context(table: str, *ids: object) -> bytes:
    """Return the context that binds a sealed value to a row.

    Two different rows never have the same context: each part carries its type and its length.

    Args:
        table: the table, with the column where it has several sealed ones.
        ids: what names the row for ever; an int, UUID, text or bytes each.

    Raises:
        ValidationError: one of them is of another type.
    """
    if not ids:
        raise ValidationError("a row is named by at least one id", field="ids")
    return b"".join(map(_part, (table, *ids)))


def _part(value: object) -> bytes:
    match value:
        case bool():
            raise ValidationError("an id is an int, a UUID, text or bytes", field="ids")
        case int():
            tag, content = b"i", str(int(value)).encode()
        case uuid.UUID():
            tag, content = b"u", value.bytes
        case str():
            tag, content = b"s", value.encode("utf-8", "surrogatepass")
        case bytes():
            tag, content = b"b", value
        case _:
            raise ValidationError("an id is an int, a UUID, text or bytes", field="ids")
    return tag + _LENGTH.pack(len(content)) + content


def _bound(header: bytes, purpose: str, context: bytes) -> bytes:
    """Return what is authenticated beside the secret; no other triple gives the same bytes."""
    return header + _part(purpose) + context


def _checked(masters: Mapping[int, bytes]) -> dict[int, bytes]:
    """Return the keys in order of their ids.

    Raises:
        ConfigurationError: there is none, an id or a length is wrong, or two are the same.
    """
    if not masters:
        raise ConfigurationError("the key ring has no key", setting=_SETTING)
    for key_id, key in masters.items():
        if key_id not in KEY_IDS:
            raise ConfigurationError(
                f"key ids are numbers from 1 to {KEY_IDS[-1]}", setting=_SETTING
            )
        if len(key) != KEY_BYTES:
            raise ConfigurationError(
                f"key {key_id} has not exactly {KEY_BYTES} bytes", setting=_SETTING
            )
    if len(set(masters.values())) < len(masters):
        raise ConfigurationError("two keys of the ring are the same", setting=_SETTING)
    return {key_id: bytes(masters[key_id]) for key_id in sorted(masters)}
