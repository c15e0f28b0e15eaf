"""The cipher of one person: seals the personal fields of events, each for its own place.

It is AES-SIV (RFC 5297) with 256-bit keys: the same field of the same event with the same content
is sealed to the same bytes. So an append that is repeated is recognised as the same, and another
content under the same event id is still noticed. Across events and fields nothing can be compared.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import uuid
from typing import Final

from rootstream_db.errors import SealBrokenError
from rootstream_db.security.keyring import row_context

SUBJECT_KEY_BYTES: Final = 64
"""Length of a person's key: AES-SIV takes two keys of 32 bytes."""


def new_subject_key() -> bytes:
    """Return a new random key."""
    return secrets.token_bytes(SUBJECT_KEY_BYTES)


class SubjectCipher:
    """Seals and opens under one person's key."""

    __slots__ = ("_siv",)

    def __init__(self, key: bytes) -> None:
        # 7 MiB that readers of events do without.
        from cryptography.hazmat.primitives.ciphers.aead import AESSIV

        self._siv = AESSIV(key)

    def seal(self, content: bytes, event_id: uuid.UUID, path: str) -> str:
        """Return ``content`` sealed for a field of an event, as text."""
        return base64.b64encode(self._siv.encrypt(content, [_place(event_id, path)])).decode()

    def open(self, sealed: str, event_id: uuid.UUID, path: str) -> bytes:
        """Return what was sealed for that field of that event.

        Raises:
            SealBrokenError: it was changed, cut, or sealed for another place or person.
        """
        from cryptography.exceptions import InvalidTag

        try:
            raw = base64.b64decode(sealed, validate=True)
            return self._siv.decrypt(raw, [_place(event_id, path)])
        except (InvalidTag, binascii.Error, ValueError):
            raise SealBrokenError from None


def _place(event_id: uuid.UUID, path: str) -> bytes:
    return row_context("event_log", event_id, path)
