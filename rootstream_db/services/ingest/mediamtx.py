"""The hooks of MediaMTX: the authentication call, and commands that report what happened.

Wire form of the call (docs/2-features/06-authentication.md and internal/auth/manager.go of
bluenviron/mediamtx): a POST of a JSON object ``user password token ip action path protocol id
query userAgent``, where ``action`` is publish, read, playback, api, metrics or pprof and ``id`` is
the connection's UUID or null. Any 2xx allows; everything else refuses, and a client that sent no
credentials is asked for them, which RTSP and browsers rely on.

The rest is reported by commands (docs/2-features/20-hooks.md): ``runOnAvailable`` and its kin run
curl with ``MTX_PATH``, ``MTX_SOURCE_ID`` or ``MTX_READER_ID``, which is the ``id`` of the call
before, and ``MTX_SEGMENT_PATH``. See docs/how-to/connect-mediamtx.md for the exact lines.

Viewers read the path that was published, so the path is the stream's public id and the key is the
publisher's token, password, or ``?key=``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from rootstream_db.errors import ValidationError
from rootstream_db.security.tokens import SecretText
from rootstream_db.services.ingest.hooks import HookAnswer, HookCall, first_values
from rootstream_db.services.ingest.requests import (
    MAX_ENCODER_LENGTH,
    Decision,
    HookEvent,
    IngestRequest,
    address,
    field,
    optional_field,
    printable,
    secret_field,
)

_ASKED: Final = {
    "publish": HookEvent.PUBLISH,
    "read": HookEvent.PLAY,
    "playback": HookEvent.PLAYBACK,
}
_EXCLUDED: Final = ("api", "metrics", "pprof")
_REPORTED: Final = {
    "update": HookEvent.UPDATE,
    "unpublish": HookEvent.UNPUBLISH,
    "watch": HookEvent.WATCH,
    "unwatch": HookEvent.PLAY_DONE,
    "record-done": HookEvent.RECORD_DONE,
}


class MediaMtxAdapter:
    """Reads ``/mediamtx/auth`` and the reports of the ``runOn…`` commands."""

    methods = ("POST",)
    actions = ("auth", *_REPORTED)

    def read(self, call: HookCall) -> IngestRequest | None:
        """Return what the hook asks.

        Raises:
            ValidationError: it is no hook of MediaMTX.
        """
        node = call.node or call.remote_address
        if call.action == "auth":
            return _asked(call.json(), node=node)
        return _reported(_REPORTED[call.action], call.form(), node=node)

    def answer(self, request: IngestRequest, decision: Decision) -> HookAnswer:
        """Allow, ask for credentials, or refuse."""
        if decision.allow:
            return self.acknowledge()
        unauthorized = request.event is HookEvent.PUBLISH and request.key is None
        status = HTTPStatus.UNAUTHORIZED if unauthorized else HTTPStatus.FORBIDDEN
        return HookAnswer(status=status, body=decision.reason.encode())

    def acknowledge(self) -> HookAnswer:
        """Allow."""
        return HookAnswer(status=HTTPStatus.NO_CONTENT)


def _asked(fields: Mapping[str, Any], *, node: str) -> IngestRequest:
    action = field(fields, "action")
    if action in _EXCLUDED:
        raise ValidationError(f"exclude the action {action} by authHTTPExclude", field="action")
    if action not in _ASKED:
        raise ValidationError("the action is none of MediaMTX's", field="action")
    event = _ASKED[action]
    return IngestRequest(
        event=event,
        node=node,
        connection_id=optional_field(fields, "id") or _anonymous(fields),
        key=_credentials(fields) if event is HookEvent.PUBLISH else None,
        public_id=_last_part(field(fields, "path")),
        protocol=printable(optional_field(fields, "protocol"), 20) or "rtmp",
        encoder=printable(optional_field(fields, "userAgent"), MAX_ENCODER_LENGTH),
        ip_address=address(optional_field(fields, "ip")),
    )


def _reported(event: HookEvent, fields: Mapping[str, str], *, node: str) -> IngestRequest:
    recorded = event is HookEvent.RECORD_DONE
    return IngestRequest(
        event=event,
        node=node,
        # A finished segment does not say which connection wrote it.
        connection_id="recorder" if recorded else field(fields, "id"),
        public_id=_last_part(field(fields, "path")),
        file_path=field(fields, "segment") if recorded else None,
    )


def _credentials(fields: Mapping[str, Any]) -> SecretText | None:
    given = secret_field(fields, "token") or secret_field(fields, "password")
    if given is not None:
        return given
    query = first_values(optional_field(fields, "query") or "")
    return secret_field(query, "key") or secret_field(query, "token")


def _last_part(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _anonymous(fields: Mapping[str, Any]) -> str:
    """Return a stable name for a client that MediaMTX did not number: same address and program."""
    seen = f"{fields.get('ip')}\n{fields.get('userAgent')}"
    return f"anonymous-{hashlib.sha256(seen.encode()).hexdigest()[:16]}"
