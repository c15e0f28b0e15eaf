"""The hooks of nginx-rtmp-module.

Wire form (``ngx_rtmp_notify_module.c`` and ``ngx_rtmp_netcall_module.c`` of release 1.2.2, seen
on the wire with Debian's libnginx-mod-rtmp 1.2.2): an HTTP/1.0 request, by default a POST with a
form, with ``notify_method get`` the same fields behind a ``?``. First come the connection's fields
``app flashver swfurl tcurl pageurl addr clientid``, then ``call`` and the call's own fields, last
and unescaped whatever query the client put behind the stream's name. ``name`` is the name the
client used, even after a redirect renamed the stream.

Answer: 2xx goes on; 3xx with a ``Location`` that is no ``rtmp://`` URL goes on under that name;
anything else, or no answer, closes the connection. That holds for ``on_publish``, ``on_play`` and
``on_update``; the others are told and do not ask.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

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
)

_EVENTS: Final = {
    "publish": HookEvent.PUBLISH,
    "update_publish": HookEvent.UPDATE,
    "publish_done": HookEvent.UNPUBLISH,
    "play": HookEvent.PLAY,
    "update_play": HookEvent.WATCH,
    "play_done": HookEvent.PLAY_DONE,
    "record_done": HookEvent.RECORD_DONE,
}
FIRST_SIGN_SECONDS: Final = 10
"""How long a publisher may take from ``on_publish`` to its first picture or sound."""

_VIEWERS: Final = (HookEvent.PLAY, HookEvent.WATCH, HookEvent.PLAY_DONE)
_ACKNOWLEDGED: Final = ("connect", "disconnect", "done", "update")


class NginxRtmpAdapter:
    """Reads ``on_publish`` and its siblings; every one of them may have the same URL.

    The stream's name is the publisher's key, or the query has it as ``?key=``. The answer to
    ``on_publish`` renames the stream to its public id, so that viewers, recordings and HLS files
    never show the key.
    """

    methods = ("POST", "GET")
    actions = ("",)

    def read(self, call: HookCall) -> IngestRequest | None:
        """Return what the hook asks.

        Raises:
            ValidationError: it is no hook of nginx-rtmp.
        """
        fields = first_values(call.appended) if call.method == "GET" else call.form()
        kind = field(fields, "call")
        if kind in _ACKNOWLEDGED:
            return None
        if kind not in _EVENTS:
            raise ValidationError("the hook's call is none of nginx-rtmp's", field="call")
        return _request(_EVENTS[kind], fields, node=call.node or call.remote_address)

    def answer(self, request: IngestRequest, decision: Decision) -> HookAnswer:
        """Go on, go on under the public id, or close the connection."""
        if not decision.allow:
            return HookAnswer(status=HTTPStatus.FORBIDDEN, body=decision.reason.encode())
        if request.event is HookEvent.PUBLISH and decision.public_id is not None:
            location = ("Location", str(decision.public_id))
            return HookAnswer(status=HTTPStatus.FOUND, headers=(location,))
        return self.acknowledge()

    def acknowledge(self) -> HookAnswer:
        """Go on."""
        return HookAnswer(status=HTTPStatus.NO_CONTENT)


def _request(event: HookEvent, fields: dict[str, str], *, node: str) -> IngestRequest:
    viewer = event in _VIEWERS
    recorded = event is HookEvent.RECORD_DONE
    name = field(fields, "name")
    return IngestRequest(
        event=event,
        node=node,
        connection_id=field(fields, "clientid"),
        key=None if viewer else SecretText(optional_field(fields, "key") or name),
        public_id=name if viewer else None,
        encoder=printable(fields.get("flashver"), MAX_ENCODER_LENGTH),
        ip_address=address(fields.get("addr")),
        file_path=field(fields, "path") if recorded else None,
        silent=event is HookEvent.UPDATE and _is_silent(fields),
    )


def _is_silent(fields: dict[str, str]) -> bool:
    """Tell whether a publisher has sent no picture and no sound for too long.

    ``drop_idle_publisher`` begins to count with the first of them, and the module's ping takes its
    own question for a sign of life, so that nobody else notices. ``time`` counts the seconds since
    ``on_publish``, ``timestamp`` is that of the last picture or sound.
    """
    connected = fields.get("time", "")
    waited = connected.isdecimal() and int(connected) >= FIRST_SIGN_SECONDS
    return waited and fields.get("timestamp") == "0"
