"""What a stream's configuration and a publisher's claims may be. Pure: no clock, no I/O."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, TypedDict, TypeVar

import orjson

from rootstream_db.errors import ValidationError
from rootstream_db.models import RecordPolicy, Visibility

MAX_NAME: Final = 200
MAX_DESCRIPTION: Final = 5000
MAX_LABEL: Final = 100
MAX_OWNER: Final = 200
"""Characters of ``node/connection``, the column's width."""
MAX_PROTOCOL: Final = 20
MAX_ENCODER: Final = 200
MAX_METADATA_BYTES: Final = 16_384
MAX_GRACE_SECONDS: Final = 3600
MAX_KEEP_DAYS: Final = 36_500
LARGEST: Final = 2**63 - 1
LARGEST_PIXELS: Final = 2**15 - 1

Choice = TypeVar("Choice", bound=StrEnum)


class StreamConfig(TypedDict, total=False):
    """What an owner may decide about a stream besides its name."""

    description: str | None
    visibility: Visibility | str
    record_policy: RecordPolicy | str
    record_keep_days: int | None
    max_viewers: int | None
    reconnect_grace_seconds: int | None
    metadata: Mapping[str, Any]


class StreamChanges(StreamConfig, total=False):
    """What an owner may change about a stream."""

    name: str


class Seen(TypedDict, total=False):
    """What a heartbeat may report; ``bytes_in`` counts the bytes of its connection so far."""

    bitrate_kbps: int | None
    fps: float | None
    width: int | None
    height: int | None
    bytes_in: int | None


def check_changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes as columns of a stream.

    Raises:
        ValidationError: one is unknown or breaks a rule.
    """
    unknown = sorted(set(changes) - set(_RULES))
    if unknown:
        known = ", ".join(sorted(_RULES))
        raise _refused(unknown[0], f"a stream has no setting {unknown[0]!r}; it has {known}")
    columns = {name: _RULES[name](value) for name, value in changes.items()}
    if "metadata" in columns:
        columns["metadata_"] = columns.pop("metadata")
    return columns


def check_label(label: str) -> str:
    """Return the label of a key: one line, possibly empty."""
    return _line(label, "label", most=MAX_LABEL, least=0)


def check_validity(not_before: datetime | None, expires_at: datetime | None, now: datetime) -> None:
    """Refuse a validity that no moment from now on lies in, or that names no time zone."""
    for name, moment in (("not_before", not_before), ("expires_at", expires_at)):
        if moment is not None and moment.tzinfo is None:
            raise _refused(name, f"{name} needs a time zone")
    if expires_at is not None and expires_at <= max(now, not_before or now):
        raise _refused("expires_at", "a key must expire in the future, after it becomes valid")


def check_owner(node: str, connection_id: str) -> str:
    """Return the name under which a connection of a media server holds a lease."""
    owner = f"{_line(node, 'node', most=MAX_OWNER)}/{_line(connection_id, 'connection_id')}"
    if len(owner) > MAX_OWNER:
        raise _refused("connection_id", f"node and connection have at most {MAX_OWNER} characters")
    return owner


def check_protocol(protocol: str) -> str:
    """Return the name of the protocol that the publisher speaks."""
    return _line(protocol, "protocol", most=MAX_PROTOCOL)


def shown_encoder(encoder: str | None) -> str | None:
    """Return the encoder's description cut to what is stored: it never fails a publisher."""
    if encoder is None:
        return None
    visible = "".join(" " if _is_control(character) else character for character in encoder[:1000])
    return visible.strip()[:MAX_ENCODER] or None


def check_seen(seen: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a heartbeat reports as columns; what it leaves out stays as it was."""
    columns: dict[str, Any] = {}
    for name, value in seen.items():
        if value is not None:
            columns[name] = _measure(name, value)
    return columns


def _name(value: Any) -> str:
    return _line(value, "name", most=MAX_NAME)


def _description(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > MAX_DESCRIPTION:
        raise _refused("description", f"a description has at most {MAX_DESCRIPTION} characters")
    if any(_is_control(character) for character in value if character not in "\n\r\t"):
        raise _refused("description", "a description holds text, without control characters")
    return value.strip() or None


def _choice(kind: type[Choice], field: str) -> Callable[[Any], Choice]:
    def check(value: Any) -> Choice:
        try:
            return kind(value)
        except ValueError as error:
            words = ", ".join(kind)
            raise _refused(field, f"{field} is one of {words}, not {value!r}") from error

    return check


def _whole(field: str, least: int, most: int) -> Callable[[Any], int | None]:
    def check(value: Any) -> int | None:
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise _refused(field, f"{field} is a whole number from {least} to {most}")
        return value

    return check


def _metadata(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _refused("metadata", "metadata is a mapping of names to JSON values")
    try:
        text = orjson.dumps(dict(value))
    except orjson.JSONEncodeError as error:
        raise _refused("metadata", f"metadata is not JSON: {error}") from error
    if len(text) > MAX_METADATA_BYTES or b"\\u0000" in text:
        raise _refused(
            "metadata", f"metadata has at most {MAX_METADATA_BYTES} bytes of JSON and no NUL"
        )
    return dict(value)


_RULES: Final[dict[str, Callable[[Any], Any]]] = {
    "name": _name,
    "description": _description,
    "visibility": _choice(Visibility, "visibility"),
    "record_policy": _choice(RecordPolicy, "record_policy"),
    "record_keep_days": _whole("record_keep_days", 1, MAX_KEEP_DAYS),
    "max_viewers": _whole("max_viewers", 1, LARGEST),
    "reconnect_grace_seconds": _whole("reconnect_grace_seconds", 0, MAX_GRACE_SECONDS),
    "metadata": _metadata,
}


def _measure(name: str, value: Any) -> int | float:
    limit = LARGEST_PIXELS if name in {"width", "height"} else LARGEST
    whole = name != "fps"
    if not isinstance(value, int if whole else int | float) or isinstance(value, bool):
        raise _refused(name, f"{name} is a {'whole ' if whole else ''}number, not {value!r}")
    if not math.isfinite(value) or not 0 <= value <= limit:
        raise _refused(name, f"{name} lies between 0 and {limit}, not at {value}")
    return value


def _line(value: Any, field: str, *, most: int = MAX_OWNER, least: int = 1) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise _refused(field, f"{field} is text of at most {most} characters")
    line = value.strip()
    if len(line) < least:
        raise _refused(field, f"{field} must not be empty")
    if any(_is_control(character) for character in line):
        raise _refused(field, f"{field} is one line of text, without control characters")
    return line


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}


def _refused(field: str, message: str) -> ValidationError:
    return ValidationError(message, field=field)
