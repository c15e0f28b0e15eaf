"""The hook server as HTTP: what is let in, what is answered, what is kept out of the logs."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import orjson
import pytest
from pydantic import SecretStr

from rootstream_db.correlation import current_correlation_id
from rootstream_db.errors import CircuitOpenError, DatabaseUnavailableError
from rootstream_db.services.ingest.requests import Decision, HookEvent, IngestRequest
from rootstream_db.services.ingest.wsgi import MAX_BODY_BYTES, IngestApplication

TOKEN = "sixteen-or-more-characters"
KEY = "rsk_4fXoSECRETSECRETSECRET"
PUBLISH = f"app=live&addr=203.0.113.9&clientid=17&call=publish&name={KEY}&type=live"


@dataclass
class Response:
    status: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def code(self) -> int:
        return int(self.status.split()[0])


def send(application: IngestApplication, path: str, body: str = "", **over: Any) -> Response:
    """Call the application the way a server does, with wsgiref watching over both sides."""
    path, _, query = path.partition("?")
    payload = body.encode()
    environ = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_LENGTH": str(len(payload)),
        "wsgi.input": io.BytesIO(payload),
        **over,
    }
    setup_testing_defaults(environ)
    response = Response()

    def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> Callable[..., Any]:
        response.status, response.headers = status, dict(headers)
        return lambda _data: None

    chunks: Any = validator(application)(environ, start_response)
    try:
        response.body = b"".join(chunks)
    finally:
        chunks.close()
    return response


class Desk:
    """Stands where the authoriser stands: notes what it is asked and answers as told."""

    def __init__(self, answer: Decision | Exception) -> None:
        self.answer = answer
        self.asked: list[IngestRequest] = []
        self.correlations: list[str | None] = []

    def authorize(self, request: IngestRequest) -> Decision:
        self.asked.append(request)
        self.correlations.append(current_correlation_id())
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def healthy() -> None:
    """Find nothing wrong."""


def build(
    answer: Decision | Exception | None = None, *, token: str | None = None
) -> tuple[IngestApplication, Desk]:
    desk = Desk(answer or Decision(allow=True, reason="the key is valid", stream_id=7))
    secret = None if token is None else SecretStr(token)
    return IngestApplication(desk.authorize, check=healthy, hook_token=secret), desk


def test_a_hook_is_read_decided_and_answered():
    application, desk = build()

    response = send(application, "/nginx-rtmp?node=edge-1", PUBLISH)

    assert 204 == response.code
    assert [(HookEvent.PUBLISH, "edge-1/17", KEY)] == [
        (request.event, request.owner, request.key) for request in desk.asked
    ]


def test_work_done_for_a_hook_is_correlated_by_its_connection():
    application, desk = build()

    send(application, "/nginx-rtmp?node=edge-1", PUBLISH)

    assert ["edge-1/17"] == desk.correlations


def test_a_refusal_is_the_media_servers_own():
    application, _ = build(Decision(allow=False, reason="the stream key has expired"))
    body = {"action": "on_publish", "client_id": "c", "stream": "s"}

    assert 403 == send(application, "/nginx-rtmp", PUBLISH).code
    assert 403 == orjson.loads(send(application, "/srs", orjson.dumps(body).decode()).body)["code"]


def test_hooks_that_ask_nothing_are_acknowledged_without_asking():
    application, desk = build()

    assert 204 == send(application, "/nginx-rtmp", "call=connect&app=live").code
    assert [] == desk.asked


def test_reports_of_mediamtx_have_a_path_each():
    application, desk = build()

    assert 204 == send(application, "/mediamtx/update", "path=p&id=c").code
    assert [HookEvent.UPDATE] == [request.event for request in desk.asked]


def test_nginx_may_ask_by_get():
    application, desk = build()

    response = send(
        application, f"/nginx-rtmp?node=edge-1?{PUBLISH}&node=evil", REQUEST_METHOD="GET"
    )

    assert 204 == response.code
    assert ["edge-1/17"] == [request.owner for request in desk.asked]


@pytest.mark.parametrize(
    "path", ["/", "/unknown", "/nginx-rtmp/publish", "/mediamtx", "/mediamtx/reboot", "//srs/x"]
)
def test_other_paths_do_not_exist(path: str):
    application, desk = build()

    assert 404 == send(application, path, PUBLISH).code
    assert [] == desk.asked


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("/srs", "GET", "POST"),
        ("/mediamtx/auth", "PUT", "POST"),
        ("/nginx-rtmp", "DELETE", "POST, GET"),
        ("/healthz", "POST", "GET, HEAD"),
    ],
)
def test_other_methods_are_named_the_right_ones(path: str, method: str, allowed: str):
    application, _ = build()

    response = send(application, path, REQUEST_METHOD=method)

    assert (405, allowed) == (response.code, response.headers["Allow"])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/nginx-rtmp", ""),
        ("/nginx-rtmp", "call=reboot"),
        ("/nginx-rtmp?" + "&".join(f"o{n}=1" for n in range(101)), PUBLISH),
        ("/nginx-rtmp?node=" + "n" * 101, PUBLISH),
        ("/srs", "not json"),
        ("/mediamtx/auth", "[]"),
    ],
)
def test_what_is_no_hook_is_a_bad_request(path: str, body: str):
    application, desk = build()

    assert 400 == send(application, path, body).code
    assert [] == desk.asked


@pytest.mark.parametrize("length", ["-1", "ten", "1e3", "²"])
def test_a_length_that_is_no_number_is_a_bad_request(length: str):
    application, _ = build()
    environ = {"CONTENT_LENGTH": length}

    # wsgiref would refuse it on the server's side already.
    answer = application._answer(
        {"REQUEST_METHOD": "POST", "PATH_INFO": "/srs", "wsgi.input": io.BytesIO(), **environ}
    )

    assert 400 == answer.status.value


def test_a_body_that_is_too_long_is_refused_unread():
    application, _ = build()
    body = io.BytesIO(b"x" * (MAX_BODY_BYTES + 1))
    environ: dict[str, Any] = {"wsgi.input": body, "CONTENT_LENGTH": str(MAX_BODY_BYTES + 1)}

    response = send(application, "/nginx-rtmp", **environ)

    assert 413 == response.code
    assert 0 == body.tell()


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (f"/nginx-rtmp?token={TOKEN}", {}),
        ("/nginx-rtmp", {"HTTP_AUTHORIZATION": f"Bearer {TOKEN}"}),
        ("/nginx-rtmp", {"HTTP_AUTHORIZATION": f"bearer {TOKEN}"}),
        ("/nginx-rtmp", {"HTTP_X_HOOK_TOKEN": TOKEN}),
    ],
)
def test_the_hook_token_opens(path: str, headers: dict[str, str]):
    application, _ = build(token=TOKEN)

    assert 204 == send(application, path, PUBLISH, **headers).code


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/nginx-rtmp", {}),
        ("/nginx-rtmp?token=wrong", {}),
        (f"/nginx-rtmp?token={TOKEN}x", {}),
        ("/nginx-rtmp?token=%FF%C3%A9", {}),
        ("/nginx-rtmp", {"HTTP_AUTHORIZATION": f"Basic {TOKEN}"}),
        ("/nginx-rtmp", {"HTTP_X_HOOK_TOKEN": "\xe9\xff"}),
    ],
)
def test_without_the_hook_token_nothing_is_asked(path: str, headers: dict[str, str]):
    application, desk = build(token=TOKEN)

    assert 403 == send(application, path, f"{PUBLISH}&token={TOKEN}", **headers).code
    assert [] == desk.asked


def test_health_needs_no_token():
    application, _ = build(token=TOKEN)

    response = send(application, "/healthz", REQUEST_METHOD="GET")

    assert (200, b"ok\n") == (response.code, response.body)


def test_health_by_head_has_no_body():
    application, _ = build()

    assert (200, b"") == (
        (response := send(application, "/healthz", REQUEST_METHOD="HEAD")).code,
        response.body,
    )


def test_health_tells_that_hooks_cannot_be_answered():
    def broken() -> None:
        raise DatabaseUnavailableError("no connection")

    application = IngestApplication(build()[1].authorize, check=broken)

    assert 503 == send(application, "/healthz", REQUEST_METHOD="GET").code


@pytest.mark.parametrize(
    "failure",
    [DatabaseUnavailableError("no connection"), CircuitOpenError("open", retry_after=3.0)],
)
def test_without_a_database_the_publisher_is_refused_and_the_log_says_why(
    failure: Exception, caplog: pytest.LogCaptureFixture
):
    application, _ = build(failure)

    with caplog.at_level(logging.ERROR):
        response = send(application, "/nginx-rtmp", PUBLISH)

    assert (503, "2") == (response.code, response.headers["Retry-After"])
    assert [f"hook refused, cannot decide: {failure}"] == caplog.messages


def test_an_unexpected_failure_refuses_too(caplog: pytest.LogCaptureFixture):
    application, _ = build(RuntimeError("a bug"))

    response = send(application, "/nginx-rtmp", PUBLISH)

    assert 500 == response.code
    assert "a bug" not in response.body.decode()
    assert "a bug" in caplog.text


@pytest.mark.parametrize(
    "answer",
    [
        Decision(allow=True, reason="the key is valid", stream_id=7),
        Decision(allow=False, reason="the stream key has expired", stream_id=7),
        DatabaseUnavailableError("no connection"),
        RuntimeError("a bug"),
    ],
)
def test_keys_and_tokens_never_reach_the_log(
    answer: Decision | Exception, caplog: pytest.LogCaptureFixture
):
    application, _ = build(answer, token=TOKEN)

    with caplog.at_level(logging.DEBUG):
        send(application, f"/nginx-rtmp?token={TOKEN}", PUBLISH)
        send(application, f"/nginx-rtmp?token={TOKEN}?{PUBLISH}", REQUEST_METHOD="GET")

    assert "" != caplog.text
    assert KEY not in caplog.text
    assert TOKEN not in caplog.text


def test_the_log_names_what_an_operator_looks_for(caplog: pytest.LogCaptureFixture):
    application, _ = build(Decision(allow=False, reason="the stream key has expired", stream_id=7))

    send(application, "/nginx-rtmp?node=edge-1", PUBLISH)

    facts = "event=publish connection=edge-1/17 stream=7 key=rsk_4fXo"
    assert [f"hook refused: the stream key has expired ({facts})"] == caplog.messages


@pytest.mark.parametrize(("call", "written"), [("publish", 1), ("update_publish", 0)])
def test_routine_signs_of_life_do_not_fill_the_log(
    call: str, written: int, caplog: pytest.LogCaptureFixture
):
    application, _ = build()

    with caplog.at_level(logging.INFO):
        send(application, "/nginx-rtmp", PUBLISH.replace("call=publish", f"call={call}"))

    assert written == len(caplog.messages)
