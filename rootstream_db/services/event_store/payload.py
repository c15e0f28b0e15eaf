"""Decide what may be written into an event, so that every reader gets back what was meant.

JSON, jsonb and Python disagree about a few values: some would come back changed, some would fail at
commit, long after the line that made them. They are refused here, by the path to the value; the
value itself is never repeated. What remains: a float that is a whole number comes back as an int.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Final

import orjson

from rootstream_db.errors import ValidationError
from rootstream_db.security.tokens import SecretText

MAX_PAYLOAD_BYTES: Final = 1024 * 1024
"""Largest JSON text of one event's data, or of its metadata: it is a message, not a file."""

MAX_DEPTH: Final = 32
"""Levels of nesting; far below what jsonb, orjson and other readers can take."""

_LEAST: Final = -(2**63)
_MOST: Final = 2**63 - 1
_MINUTE: Final = timedelta(minutes=1)
_SHOWN_KEY: Final = 40


def encode(payload: dict[str, object], field: str, *, max_bytes: int = MAX_PAYLOAD_BYTES) -> bytes:
    """Return ``payload`` as JSON.

    Aware datetimes become RFC 3339 text, UUIDs and Decimals text, enum members their values.

    Args:
        payload: a JSON object.
        field: what messages call it.
        max_bytes: the longest JSON text allowed.

    Raises:
        ValidationError: something in it cannot be stored and read back as it is; ``field`` is the
            path to it, for example ``data.viewers[3]``.
    """
    if not isinstance(payload, dict):
        raise _refused(field, f"is a JSON object, a dict, not {_article(payload)}")
    _check(payload, field, 0)
    encoded = orjson.dumps(payload, default=_plain)
    if len(encoded) > max_bytes:
        raise _refused(
            field,
            f"is {len(encoded):,} bytes of JSON, {max_bytes:,} allowed: store the "
            "content elsewhere and refer to it",
        )
    return encoded


def encode_fields(
    payload: dict[str, object], field: str, *, max_bytes: int = MAX_PAYLOAD_BYTES
) -> dict[str, bytes]:
    """Return each field of ``payload`` as JSON of its own; see ``encode``."""
    encode(payload, field, max_bytes=max_bytes)
    return {name: orjson.dumps(value, default=_plain) for name, value in payload.items()}


def check_text(value: object, path: str) -> None:
    """Refuse what is no text PostgreSQL can store.

    Raises:
        ValidationError: it is not ``str``, or holds NUL or half of a surrogate pair.
    """
    if not isinstance(value, str):
        raise _refused(path, f"is text, not {_article(value)}")
    if "\0" in value:
        raise _refused(path, "contains a NUL character, which PostgreSQL cannot store")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _refused(path, "contains half of a surrogate pair: it is not Unicode") from None


def check_time(value: datetime, path: str) -> None:
    """Refuse a time that does not say where it is meant.

    Raises:
        ValidationError: it has no time zone.
    """
    if value.utcoffset() is None:
        raise _refused(path, "is a naive datetime: give it a time zone")


def instant(value: datetime, path: str) -> datetime:
    """Return a time in UTC: some offsets, to the second, have no place in a text.

    Raises:
        ValidationError: it does not say where it is meant, or could not be read back.
    """
    check_time(value, path)
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise _refused(path, "is a time beyond the years 1 to 9999 of UTC") from None


def check_number(value: int, path: str) -> None:
    """Refuse a number that PostgreSQL's ``bigint`` cannot hold.

    Raises:
        ValidationError: it is an integer beyond 64 bits.
    """
    if not _LEAST <= value <= _MOST:
        raise _refused(path, "is an integer beyond 64 bits")


def _check(value: object, path: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise _refused(path, f"is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        # Paths are text that nearly nobody reads: only the unusual gets one.
        for key, item in value.items():
            kind = type(item)
            # Every value of every event passes here: a function call would cost more than all this.
            if (
                (kind is str and item.isascii() and "\0" not in item)
                or (kind is int and _LEAST <= item <= _MOST)
                or (kind is float and isfinite(item))
                or kind is bool
                or item is None
            ) and (type(key) is str and key.isascii() and "\0" not in key):
                continue
            _check(item, f"{path}{_step(key, path)}", depth + 1)
    elif isinstance(value, list) or type(value) is tuple:
        for index, item in enumerate(value):
            if not _is_plain(item):
                _check(item, f"{path}[{index}]", depth + 1)
    else:
        _check_scalar(value, path)


def _is_plain(value: object) -> bool:
    if type(value) is str:
        return value.isascii() and "\0" not in value
    if type(value) is int:
        return _LEAST <= value <= _MOST
    return value is None or type(value) is bool


def _check_scalar(value: object, path: str) -> None:
    match value:
        case Enum():
            _check_scalar(value.value, path)
        case SecretText():
            raise _refused(path, "is a secret: what is in an event is there for ever")
        case str():
            check_text(value, path)
        case int() if not _LEAST <= value <= _MOST:
            raise _refused(path, "is an integer beyond 64 bits: send it as text")
        case float() | Decimal() if not isfinite(value):
            raise _refused(path, "is not a finite number, which JSON does not know")
        case datetime():
            _check_written_time(value, path)
        case None | int() | float() | Decimal() | uuid.UUID():
            pass
        case _:
            raise _refused(path, f"is {_article(value)}, which JSON does not know")


def _check_written_time(value: datetime, path: str) -> None:
    check_time(value, path)
    if (value.utcoffset() or _MINUTE) % _MINUTE:
        raise _refused(path, "has an offset of seconds, which times as text do not know")


def _step(key: object, path: str) -> str:
    if type(key) is not str:
        raise _refused(path, f"has a key that is {_article(key)}: keys are text")
    check_text(key, f"{path}: a key")
    shown = key[:_SHOWN_KEY]
    return f".{shown}" if key.isidentifier() else f"[{shown!r}]"


def _plain(value: object) -> object:
    """Return what orjson does not know itself: Decimals, and subclasses of what it does know."""
    match value:
        case float():
            return float(value)
        case datetime():
            return value.isoformat()
        case _:
            return str(value)


def _refused(path: str, reason: str) -> ValidationError:
    return ValidationError(f"{path} {reason}", field=path)


def _article(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
