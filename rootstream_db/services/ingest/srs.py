"""The HTTP callbacks of SRS.

Wire form (``http_hooks`` in trunk/conf/full.conf and trunk/src/app/srs_app_http_hooks.cpp of
ossrs/srs): a POST of a JSON object with ``action client_id ip vhost app stream param server_id``,
for ``on_dvr`` and ``on_hls`` also ``cwd`` and ``file``. ``param`` is the client's query with its
question mark. SRS goes on when the status is 200 or 201 and the body is ``0`` or an object whose
``code`` is 0; anything else refuses ``on_publish`` and ``on_play`` and is logged for the others.

SRS has no hook that says a publisher is still there; ``on_hls``, sent for each HLS segment, takes
its place, so ``hls_fragment`` must be well below the lease. Viewers play the name that was
published, so the stream is the public id and the key comes as ``?key=``.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import Any, Final

import orjson

from rootstream_db.errors import ValidationError
from rootstream_db.services.ingest.hooks import HookAnswer, HookCall, first_values
from rootstream_db.services.ingest.requests import (
    Decision,
    HookEvent,
    IngestRequest,
    address,
    field,
    optional_field,
    secret_field,
)

_EVENTS: Final = {
    "on_publish": HookEvent.PUBLISH,
    "on_hls": HookEvent.UPDATE,
    "on_unpublish": HookEvent.UNPUBLISH,
    "on_play": HookEvent.PLAY,
    "on_stop": HookEvent.PLAY_DONE,
    "on_dvr": HookEvent.RECORD_DONE,
}
_ACKNOWLEDGED: Final = ("on_connect", "on_close")
_REFUSED: Final = 403


class SrsAdapter:
    """Reads every callback; all of them may have the same URL."""

    methods = ("POST",)
    actions = ("",)

    def read(self, call: HookCall) -> IngestRequest | None:
        """Return what the callback asks.

        Raises:
            ValidationError: it is no callback of SRS.
        """
        fields = call.json()
        action = field(fields, "action")
        if action in _ACKNOWLEDGED:
            return None
        if action not in _EVENTS:
            raise ValidationError("the action is none of SRS's", field="action")
        node = call.node or optional_field(fields, "server_id") or call.remote_address
        return _request(_EVENTS[action], fields, node=node)

    def answer(self, request: IngestRequest, decision: Decision) -> HookAnswer:
        """Code 0 goes on, any other refuses."""
        if decision.allow:
            return self.acknowledge()
        body = orjson.dumps({"code": _REFUSED, "msg": decision.reason})
        return HookAnswer(status=HTTPStatus.OK, body=body, content_type="application/json")

    def acknowledge(self) -> HookAnswer:
        """Go on."""
        return HookAnswer(status=HTTPStatus.OK, body=b"0")


def _request(event: HookEvent, fields: Mapping[str, Any], *, node: str) -> IngestRequest:
    query = first_values((optional_field(fields, "param") or "").removeprefix("?"))
    return IngestRequest(
        event=event,
        node=node,
        connection_id=field(fields, "client_id"),
        key=secret_field(query, "key"),
        public_id=field(fields, "stream"),
        ip_address=address(optional_field(fields, "ip")),
        file_path=_file(fields) if event is HookEvent.RECORD_DONE else None,
    )


def _file(fields: Mapping[str, Any]) -> str:
    """Return where the recording is: SRS names it from its own working directory."""
    return str(PurePosixPath(optional_field(fields, "cwd") or "/", field(fields, "file")))
