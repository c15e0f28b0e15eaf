"""The hooks of MediaMTX: its authentication call and the reports of its commands."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest

from rootstream_db.errors import ValidationError
from rootstream_db.services.ingest.hooks import HookCall
from rootstream_db.services.ingest.mediamtx import MediaMtxAdapter
from rootstream_db.services.ingest.requests import Decision, HookEvent, IngestRequest

CONNECTION = "8f0c6f0e-3f6a-4a63-9a34-0d3c5a5f3a11"
PUBLIC_ID = "3d9e5a3a-52c4-4f0e-8d7b-0a3bb0a8f6aa"
ADAPTER = MediaMtxAdapter()


def asked(**over: Any) -> HookCall:
    fields = {
        "ip": "203.0.113.9",
        "user": "",
        "password": "",
        "token": "",
        "action": "publish",
        "path": PUBLIC_ID,
        "protocol": "rtmp",
        "id": CONNECTION,
        "query": "",
        "userAgent": "OBS/31",
        **over,
    }
    return HookCall(
        method="POST", action="auth", body=orjson.dumps(fields), options={"node": "edge-1"}
    )


def reported(action: str, **fields: str) -> HookCall:
    body = urlencode({"path": f"live/{PUBLIC_ID}", "id": CONNECTION, **fields}).encode()
    return HookCall(method="POST", action=action, body=body, remote_address="10.0.0.7")


def read(call: HookCall) -> IngestRequest:
    request = ADAPTER.read(call)
    assert request is not None
    return request


@pytest.mark.parametrize(
    "credentials",
    [
        {"token": "rsk_secret"},
        {"password": "rsk_secret"},
        {"query": "key=rsk_secret"},
        {"query": "token=rsk_secret&x=1"},
        {"token": "rsk_secret", "password": "other", "query": "key=other"},
    ],
)
def test_the_key_is_the_token_the_password_or_in_the_query(credentials: dict[str, str]):
    request = read(asked(**credentials))

    assert (HookEvent.PUBLISH, "rsk_secret") == (request.event, request.key)
    assert (PUBLIC_ID, f"edge-1/{CONNECTION}") == (request.public_id, request.owner)
    assert ("203.0.113.9", "OBS/31", "rtmp") == (
        request.ip_address,
        request.encoder,
        request.protocol,
    )


@pytest.mark.parametrize("path", [PUBLIC_ID, f"live/{PUBLIC_ID}", f"a/b/{PUBLIC_ID}/"])
def test_the_public_id_is_the_last_part_of_the_path(path: str):
    assert PUBLIC_ID == read(asked(path=path)).public_id


@pytest.mark.parametrize(
    ("action", "event"), [("read", HookEvent.PLAY), ("playback", HookEvent.PLAYBACK)]
)
def test_viewers_present_no_key(action: str, event: HookEvent):
    request = read(asked(action=action, token="rsk_secret"))

    assert (event, None, PUBLIC_ID) == (request.event, request.key, request.public_id)


def test_a_client_without_a_number_is_known_by_its_address_and_program():
    first, again = (read(asked(action="read", id=None)) for _ in range(2))
    other = read(asked(action="read", id=None, ip="203.0.113.10"))

    assert first.owner == again.owner
    assert first.owner != other.owner


@pytest.mark.parametrize("action", ["api", "metrics", "pprof"])
def test_actions_of_operators_are_to_be_excluded(action: str):
    with pytest.raises(ValidationError, match="authHTTPExclude"):
        ADAPTER.read(asked(action=action, path=""))


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        (b"", "body"),
        (b"[]", "body"),
        (b"{", "body"),
        (b"\xff", "body"),
        (b"{}", "action"),
        (b'{"action": 7}', "action"),
        (b'{"action": "format"}', "action"),
        (b'{"action": "read", "id": "1"}', "path"),
        (b'{"action": "read", "id": 1, "path": "p"}', "id"),
        (b'{"action": "publish", "id": "1", "path": "p", "token": ["a"]}', "token"),
        (b'{"action": "read", "id": "1", "path": "p", "ip": {}}', "ip"),
    ],
)
def test_what_is_no_hook_is_refused_by_the_field_that_is_wrong(body: bytes, wrong: str):
    with pytest.raises(ValidationError) as refused:
        ADAPTER.read(HookCall(method="POST", action="auth", body=body, remote_address="127.0.0.1"))

    assert wrong == refused.value.field


@pytest.mark.parametrize(
    ("action", "event"),
    [
        ("update", HookEvent.UPDATE),
        ("unpublish", HookEvent.UNPUBLISH),
        ("watch", HookEvent.WATCH),
        ("unwatch", HookEvent.PLAY_DONE),
    ],
)
def test_commands_report_by_path_and_id(action: str, event: HookEvent):
    request = read(reported(action))

    assert event is request.event
    assert (PUBLIC_ID, f"10.0.0.7/{CONNECTION}") == (request.public_id, request.owner)


def test_a_finished_segment_is_reported_without_its_connection():
    body = urlencode({"path": PUBLIC_ID, "segment": "/rec/a.mp4", "duration": "3.5"}).encode()

    request = read(
        HookCall(method="POST", action="record-done", body=body, remote_address="10.0.0.7")
    )

    assert (HookEvent.RECORD_DONE, "/rec/a.mp4") == (request.event, request.file_path)


def test_a_publisher_without_credentials_is_asked_for_them():
    """RTSP clients present nothing until they are answered 401."""
    answer = ADAPTER.answer(read(asked()), Decision(allow=False, reason="no key"))

    assert HTTPStatus.UNAUTHORIZED is answer.status


def test_a_publisher_with_wrong_credentials_is_refused():
    answer = ADAPTER.answer(read(asked(token="x")), Decision(allow=False, reason="unknown key"))

    assert (HTTPStatus.FORBIDDEN, b"unknown key") == (answer.status, answer.body)


def test_an_allowed_publisher_gets_a_2xx():
    answer = ADAPTER.answer(read(asked(token="x")), Decision(allow=True, reason=""))

    assert HTTPStatus.NO_CONTENT is answer.status
