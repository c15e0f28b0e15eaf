"""What the cache holds of a session: a fixed structure, authenticated. Pure: no clock, no I/O.

Whoever can write to Redis cannot make a session: an entry ends with a keyed BLAKE2b over the digest
of the token and everything before it, so that neither a made-up entry nor one that was copied from
another session or edited is believed. Entries hold nothing personal.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Final, NamedTuple

from rootstream_db.errors import ValidationError
from rootstream_db.models.sessions import FINGERPRINT_BYTES, UserSession
from rootstream_db.repositories.session_rows import FoundSession
from rootstream_db.security.assurance import MfaMethod

NO_FINGERPRINT: Final = bytes(FINGERPRINT_BYTES)
"""Stands for a session that is bound to no device."""

METHODS: Final[Mapping[int, MfaMethod | None]] = {
    0: None,
    1: MfaMethod.TOTP,
    2: MfaMethod.BACKUP_CODE,
    3: MfaMethod.PASSKEY,
    4: MfaMethod.TRUSTED_DEVICE,
}
"""Second factors by the number that stands for them; numbers are never used anew."""

_NUMBERS: Final = {method: number for number, method in METHODS.items()}
_FORM: Final = 1
_BODY: Final = struct.Struct(f">BqqqqBBqqqqqq{FINGERPRINT_BYTES}s")
_MAC_BYTES: Final = 16
ENTRY_BYTES: Final = _BODY.size + _MAC_BYTES
"""Length of every entry; shorter values are marks."""

_ORIGIN: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Entry(NamedTuple):
    """A session as the cache knows it; times are microseconds since 1970, 0 for never.

    ``checked_at`` is a moment at which PostgreSQL had not yet been asked: whatever was committed
    before it is known.
    """

    session_id: int
    user_id: int
    family: int
    generation: int
    level: int
    method: int
    authenticated_at: int
    mfa_at: int
    last_seen_at: int
    idle_expires_at: int
    expires_at: int
    checked_at: int
    fingerprint: bytes


class EntryCodec:
    """Writes and reads entries under one key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def encode(self, digest: bytes, entry: Entry) -> bytes:
        """Return the entry for the session whose token has that digest."""
        body = _BODY.pack(_FORM, *entry)
        return body + self._mac(digest, body)

    def decode(self, digest: bytes, value: bytes) -> Entry | None:
        """Return the entry, or None if it was not written for this session under this key."""
        if len(value) != ENTRY_BYTES:
            return None
        body = value[:-_MAC_BYTES]
        if not hmac.compare_digest(self._mac(digest, body), value[-_MAC_BYTES:]):
            return None
        form, *fields = _BODY.unpack(body)
        return Entry._make(fields) if form == _FORM else None

    def _mac(self, digest: bytes, body: bytes) -> bytes:
        return blake2b(digest + body, key=self._key, digest_size=_MAC_BYTES).digest()


def entry_of(found: FoundSession | UserSession, *, checked_at: int) -> Entry:
    """Return the entry of a session as PostgreSQL has it."""
    return Entry(
        session_id=found.id,
        user_id=found.user_id,
        family=found.family,
        generation=found.generation,
        level=found.level,
        method=_NUMBERS[None if found.mfa_method is None else MfaMethod(found.mfa_method)],
        authenticated_at=microseconds(found.authenticated_at),
        mfa_at=0 if found.mfa_at is None else microseconds(found.mfa_at),
        last_seen_at=microseconds(found.last_seen_at),
        idle_expires_at=microseconds(found.idle_expires_at),
        expires_at=microseconds(found.expires_at),
        checked_at=checked_at,
        fingerprint=found.device_fingerprint or NO_FINGERPRINT,
    )


def microseconds(moment: datetime) -> int:
    """Return a moment as microseconds since 1970.

    Raises:
        ValidationError: it names no time zone, so nobody knows which moment it is.
    """
    if moment.tzinfo is None:
        raise ValidationError("a time without a time zone names no moment", field="time")
    # Not by way of a float, which holds microseconds until 2106.
    return (moment - _ORIGIN) // _MICROSECOND


def moment(at: int) -> datetime:
    """Return microseconds since 1970 as a moment."""
    return _ORIGIN + timedelta(microseconds=at)


def span(length: timedelta) -> int:
    """Return a length of time in microseconds."""
    return length // _MICROSECOND
