"""The HTTP callbacks of SRS."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson
import pytest

from rootstream_db.errors import ValidationError
from rootstream_db.services.ingest.hooks import HookCall
from rootstream_db.services.ingest.requests import Decision, HookEvent, IngestRequest
from rootstream_db.services.ingest.srs import SrsAdapter

PUBLIC_ID = "3d9e5a3a-52c4-4f0e-8d7b-0a3bb0a8f6aa"
ADAPTER = SrsAdapter()


def callback(action: str, *, node: str | None = None, **over: Any) -> HookCall:
    fields = {
        "server_id": "vid-0xk989d",
        "service_id": "382k890",
        "action": action,
        "client_id": "9308h583",
        "ip": "203.0.113.9",
        "vhost": "__defaultVhost__",
        "app": "live",
        "tcUrl": "rtmp://127.0.0.1:1935/live",
        "stream": PUBLIC_ID,
        "param": "?key=rsk_secret&vhost=a",
        "stream_url": f"/live/{PUBLIC_ID}",
        "stream_id": "vid-124q9y3",
        **over,
    }
    return HookCall(
        method="POST",
        body=orjson.dumps(fields),
        options={"node": node} if node else {},
        remote_address="10.0.0.7",
    )


def read(call: HookCall) -> IngestRequest:
    request = ADAPTER.read(call)
    assert request is not None
    return request


@pytest.mark.parametrize(
    ("action", "event"),
    [
        ("on_publish", HookEvent.PUBLISH),
        ("on_hls", HookEvent.UPDATE),
        ("on_unpublish", HookEvent.UNPUBLISH),
        ("on_play", HookEvent.PLAY),
        ("on_stop", HookEvent.PLAY_DONE),
    ],
)
def test_callbacks_name_the_stream_and_carry_the_clients_query(action: str, event: HookEvent):
    request = read(callback(action))

    assert event is request.event
    assert (PUBLIC_ID, "rsk_secret") == (request.public_id, request.key)
    assert ("vid-0xk989d/9308h583", "203.0.113.9") == (request.owner, request.ip_address)


def test_the_operators_name_of_the_node_comes_before_the_servers_own():
    assert "edge-1/9308h583" == read(callback("on_publish", node="edge-1")).owner


def test_without_a_server_id_the_node_is_the_callers_address():
    assert "10.0.0.7/9308h583" == read(callback("on_publish", server_id="")).owner


@pytest.mark.parametrize(
    ("file", "path"),
    [("./objs/a.flv", "/usr/local/srs/objs/a.flv"), ("/rec/a.flv", "/rec/a.flv")],
)
def test_a_recording_is_named_from_the_servers_own_folder(file: str, path: str):
    request = read(callback("on_dvr", cwd="/usr/local/srs", file=file))

    assert (HookEvent.RECORD_DONE, path) == (request.event, request.file_path)


@pytest.mark.parametrize("action", ["on_connect", "on_close"])
def test_callbacks_without_a_question_are_acknowledged(action: str):
    assert ADAPTER.read(callback(action)) is None
    assert b"0" == ADAPTER.acknowledge().body


@pytest.mark.parametrize(
    ("over", "wrong"),
    [
        ({"action": "on_fire"}, "action"),
        ({"client_id": None}, "client_id"),
        ({"client_id": 1985}, "client_id"),
        ({"stream": ""}, "stream"),
        ({"param": 3}, "param"),
        ({"stream": "a\0b"}, "stream"),
    ],
)
def test_what_is_no_callback_is_refused_by_the_field_that_is_wrong(
    over: dict[str, Any], wrong: str
):
    with pytest.raises(ValidationError) as refused:
        ADAPTER.read(callback(over.pop("action", "on_publish"), **over))

    assert wrong == refused.value.field


def test_allowed_is_a_200_with_the_body_0():
    answer = ADAPTER.answer(read(callback("on_publish")), Decision(allow=True, reason=""))

    assert (HTTPStatus.OK, b"0") == (answer.status, answer.body)


def test_refused_is_a_200_with_another_code():
    answer = ADAPTER.answer(read(callback("on_play")), Decision(allow=False, reason="private"))

    assert HTTPStatus.OK is answer.status
    assert {"code": 403, "msg": "private"} == orjson.loads(answer.body)
