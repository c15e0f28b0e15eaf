"""What media servers ask and what they are told, in one form for all of them."""

from __future__ import annotations

import ipaddress
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from rootstream_db.errors import ValidationError
from rootstream_db.security.tokens import SecretText
from rootstream_db.services.streams import Lease

MAX_NODE_LENGTH: Final = 100
MAX_CONNECTION_LENGTH: Final = 90
"""Together with the slash between them a node and a connection fit ``stream_live.lease_owner``."""

MAX_ENCODER_LENGTH: Final = 200
_PUBLIC_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)


class HookEvent(StrEnum):
    """What happened at the media server."""

    PUBLISH = "publish"
    """A publisher asks to go live."""
    UPDATE = "update"
    """A publisher is still there."""
    UNPUBLISH = "unpublish"
    """A publisher's connection was closed."""
    PLAY = "play"
    """A viewer asks to watch."""
    WATCH = "watch"
    """A viewer is still there."""
    PLAY_DONE = "play_done"
    """A viewer left."""
    PLAYBACK = "playback"
    """Somebody asks for a recording of the stream."""
    RECORD_DONE = "record_done"
    """A recording was written to the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestRequest:
    """One hook of a media server.

    Attributes:
        event: what happened.
        node: the media server, by the name its operator gave it, or its address.
        connection_id: the media server's own number of the connection.
        key: the stream key the publisher presented; never shown by ``repr``.
        public_id: the public name of the stream, where the server knows it.
        protocol: how the connection talks: rtmp, srt, webrtc …
        encoder: what the publisher says of itself.
        ip_address: where the connection comes from.
        file_path: the file that was recorded.
        silent: the media server says that the publisher has sent nothing yet.

    Raises:
        ValidationError: node or connection are missing, too long or not printable.
    """

    event: HookEvent
    node: str
    connection_id: str
    key: SecretText | None = None
    public_id: str | None = None
    protocol: str = "rtmp"
    encoder: str | None = None
    ip_address: str | None = None
    file_path: str | None = None
    silent: bool = False

    def __post_init__(self) -> None:
        _check_name("node", self.node, MAX_NODE_LENGTH)
        _check_name("connection", self.connection_id, MAX_CONNECTION_LENGTH)

    @property
    def owner(self) -> str:
        """The name under which this connection holds a lease, the same in every hook of it."""
        return f"{self.node}/{self.connection_id}"

    @property
    def public_uuid(self) -> uuid.UUID | None:
        """The public id, if it has the form of one."""
        if self.public_id is None or _PUBLIC_ID.fullmatch(self.public_id) is None:
            return None
        return uuid.UUID(self.public_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer to a hook.

    Attributes:
        allow: whether the connection may go on.
        reason: why, for logs and for the media server; names no secret.
        stream_id: the stream it is about, when one was found.
        public_id: under which name viewers know that stream.
        lease: what the publisher holds from now on.
    """

    allow: bool
    reason: str
    stream_id: int | None = None
    public_id: uuid.UUID | None = None
    lease: Lease | None = None


def printable(text: str | None, limit: int) -> str | None:
    """Return what can be stored of a text that a client chose, None when that is nothing."""
    kept = "".join(letter for letter in text or "" if letter.isprintable())
    return kept.strip()[:limit] or None


def address(text: str | None) -> str | None:
    """Return ``text`` if it is an IP address; media servers also write ``unix:`` and the like."""
    try:
        return str(ipaddress.ip_address(text or ""))
    except ValueError:
        return None


def field(values: Mapping[str, object], name: str) -> str:
    """Return a field that the hook must have.

    Raises:
        ValidationError: it is missing, empty or not text.
    """
    value = values.get(name)
    if not isinstance(value, str) or not value:
        raise ValidationError(f"the hook has no {name}", field=name)
    if "\0" in value:
        raise ValidationError(f"the hook's {name} contains a NUL byte", field=name)
    return value


def optional_field(values: Mapping[str, object], name: str) -> str | None:
    """Return a field that may be missing, empty or null.

    Raises:
        ValidationError: it is not text.
    """
    return field(values, name) if values.get(name) not in (None, "") else None


def secret_field(values: Mapping[str, object], name: str) -> SecretText | None:
    """Return an optional field that nobody may see.

    Raises:
        ValidationError: it is not text.
    """
    value = optional_field(values, name)
    return None if value is None else SecretText(value)


def _check_name(name: str, value: str, limit: int) -> None:
    if not 0 < len(value) <= limit or not value.isprintable() or value != value.strip():
        raise ValidationError(f"a {name} is 1 to {limit} printable characters", field=name)
