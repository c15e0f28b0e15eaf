"""The hooks of nginx-rtmp, as Debian's libnginx-mod-rtmp 1.2.2 sent them."""

from __future__ import annotations

import string
import uuid
from http import HTTPStatus
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootstream_db.errors import ValidationError
from rootstream_db.services.ingest.hooks import HookCall, split_query
from rootstream_db.services.ingest.nginx_rtmp import NginxRtmpAdapter
from rootstream_db.services.ingest.requests import Decision, HookEvent, IngestRequest

CONNECTION = (
    "app=live&flashver=FMLE/3.0%20(compatible%3B%20Lavf63.1.&swfurl="
    "&tcurl=rtmp://127.0.0.1:1935/live&pageurl=&addr=203.0.113.9&clientid=17"
)
ADAPTER = NginxRtmpAdapter()


def post(fields: str, remote_address: str = "127.0.0.1") -> HookCall:
    return HookCall(method="POST", body=fields.encode(), remote_address=remote_address)


def read(call: HookCall) -> IngestRequest:
    request = ADAPTER.read(call)
    assert request is not None
    return request


def test_on_publish_carries_the_key_as_the_name_of_the_stream():
    request = read(post(f"{CONNECTION}&call=publish&name=rsk_secret&type=live"))

    assert HookEvent.PUBLISH is request.event
    assert "rsk_secret" == request.key
    assert request.public_id is None
    assert "127.0.0.1/17" == request.owner
    assert "203.0.113.9" == request.ip_address
    assert "FMLE/3.0 (compatible; Lavf63.1." == request.encoder
    assert "rtmp" == request.protocol


def test_a_key_in_the_query_comes_before_the_name():
    request = read(post(f"{CONNECTION}&call=publish&name=obs&type=live&key=rsk_secret"))

    assert "rsk_secret" == request.key


@pytest.mark.parametrize(
    ("call", "event"),
    [
        ("update_publish&time=3&timestamp=3223", HookEvent.UPDATE),
        ("publish_done", HookEvent.UNPUBLISH),
    ],
)
def test_later_hooks_of_a_publisher_carry_the_key_too(call: str, event: HookEvent):
    request = read(post(f"{CONNECTION}&call={call}&name=rsk_secret"))

    assert (event, "rsk_secret", "127.0.0.1/17") == (request.event, request.key, request.owner)


@pytest.mark.parametrize(
    ("call", "event"),
    [
        ("play&name=the-id&start=4294966296&duration=0&reset=0", HookEvent.PLAY),
        ("update_play&time=3&timestamp=0&name=the-id", HookEvent.WATCH),
        ("play_done&name=the-id", HookEvent.PLAY_DONE),
    ],
)
def test_viewers_name_the_public_id_and_have_no_key(call: str, event: HookEvent):
    request = read(post(f"{CONNECTION}&call={call}&key=rsk_tried"))

    assert event is request.event
    assert "the-id" == request.public_id
    assert request.key is None


def test_on_record_done_names_the_file():
    path = "/var/rec/01a2-1795267727.flv"

    request = read(post(f"{CONNECTION}&call=record_done&recorder=&name=rsk_secret&path={path}"))

    assert (HookEvent.RECORD_DONE, path) == (request.event, request.file_path)


def test_with_notify_method_get_the_fields_stand_behind_the_query_of_the_url():
    options, appended = split_query(f"node=edge-1?{CONNECTION}&call=publish&name=rsk_a&type=live")
    call = HookCall(method="GET", options={"node": "edge-1"}, appended=appended)

    assert "node=edge-1" == options
    assert "edge-1/17" == read(call).owner


def test_with_notify_method_get_and_no_query_of_its_own_nothing_is_an_option():
    raw = f"{CONNECTION}&call=publish&name=rsk_a&type=live&node=evil&x=a?b"

    assert ("", raw) == split_query(raw)


@pytest.mark.parametrize("call", ["connect", "disconnect", "done", "update"])
def test_hooks_without_a_question_are_acknowledged(call: str):
    assert ADAPTER.read(post(f"{CONNECTION}&call={call}")) is None
    assert HTTPStatus.NO_CONTENT is ADAPTER.acknowledge().status


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ("", "call"),
        ("call=", "call"),
        ("call=reboot", "call"),
        ("call=publish&clientid=1", "name"),
        ("call=publish&name=k", "clientid"),
        ("call=publish&name=k&clientid=" + "9" * 91, "connection"),
        ("call=publish&name=k&clientid=1%0A2", "connection"),
        ("call=publish&name=k&clientid=%201", "connection"),
        ("call=publish&name=a%00b&clientid=1", "name"),
        ("call=record_done&name=k&clientid=1", "path"),
        ("&".join(f"f{n}=1" for n in range(101)), "body"),
    ],
)
def test_what_is_no_hook_is_refused_by_the_field_that_is_wrong(fields: str, wrong: str):
    with pytest.raises(ValidationError) as refused:
        ADAPTER.read(post(fields))

    assert wrong == refused.value.field


def test_a_missing_node_is_the_address_the_call_came_from():
    assert (
        "10.0.0.7/17"
        == read(post(f"{CONNECTION}&call=publish&name=k", remote_address="10.0.0.7")).owner
    )


def test_an_allowed_publisher_goes_on_under_the_public_id():
    public_id = uuid.uuid4()
    request = read(post(f"{CONNECTION}&call=publish&name=rsk_secret&type=live"))

    answer = ADAPTER.answer(request, Decision(allow=True, reason="", public_id=public_id))

    assert HTTPStatus.FOUND is answer.status
    assert (("Location", str(public_id)),) == answer.headers


def test_an_allowed_update_just_goes_on():
    request = read(post(f"{CONNECTION}&call=update_publish&name=rsk_secret"))
    decision = Decision(allow=True, reason="", public_id=uuid.uuid4())

    assert HTTPStatus.NO_CONTENT is ADAPTER.answer(request, decision).status


def test_a_refusal_is_a_403_with_the_reason():
    request = read(post(f"{CONNECTION}&call=publish&name=rsk_secret&type=live"))

    answer = ADAPTER.answer(request, Decision(allow=False, reason="the stream key has expired"))

    assert (HTTPStatus.FORBIDDEN, b"the stream key has expired") == (answer.status, answer.body)


FIELD_NAMES = st.sampled_from(["app", "addr", "clientid", "call", "name", "path", "type", "node"])
VALUES = st.text(string.printable, max_size=20)


@given(st.lists(st.tuples(FIELD_NAMES, VALUES), max_size=8), VALUES)
def test_nothing_a_client_appends_changes_what_the_server_said(
    appended: list[tuple[str, str]], raw: str
):
    """The module writes a client's query behind its own fields, unescaped."""
    said = f"{CONNECTION}&call=publish&name=rsk_secret&type=live"
    tail = "&".join(f"{name}={quote(value)}" for name, value in appended)

    request = read(post(f"{said}&{tail}&{raw.replace('key=', '')}"))

    assert read(post(said)) == request


@given(VALUES.filter(str.strip), VALUES)
def test_what_the_module_escapes_comes_back_as_it_was(name: str, flashver: str):
    escaped = f"flashver={quote(flashver)}&clientid=1&call=publish&name={quote(name)}"

    assert name == read(post(escaped)).key


@pytest.mark.parametrize(
    ("call", "silent"),
    [
        ("update_publish&time=10&timestamp=0", True),
        ("update_publish&time=9&timestamp=0", False),
        ("update_publish&time=4000000&timestamp=3999999000", False),
        ("update_publish&time=x&timestamp=0", False),
        ("update_publish", False),
        ("update_play&time=10&timestamp=0", False),
        ("publish&time=10&timestamp=0", False),
    ],
)
def test_a_publisher_that_never_sent_anything_is_known(call: str, silent: bool):
    assert silent is read(post(f"{CONNECTION}&call={call}&name=rsk_secret")).silent


def test_a_request_does_not_show_its_key():
    request = read(post(f"{CONNECTION}&call=publish&name=rsk_secret&type=live"))

    assert "rsk_secret" not in repr(request)
