"""The whole way of a hook: HTTP, adapter, authoriser, PostgreSQL."""

from __future__ import annotations

import io
import logging
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from rootstream_db.errors import ConfigurationError
from rootstream_db.models import Stream
from rootstream_db.rootstream import RootStream
from rootstream_db.security.tokens import SecretText
from rootstream_db.services.ingest import IngestApplication, IngestServer
from rootstream_db.settings import DatabaseSettings, IngestSettings
from tests.factories import make_user


def application(rs: RootStream) -> IngestApplication:
    return IngestApplication(rs.ingest.authorize, check=rs.database.ping)


def call(app: IngestApplication, path: str, body: str | bytes = b"") -> tuple[int, dict[str, str]]:
    data = body if isinstance(body, bytes) else body.encode()
    seen: list[Any] = []
    environ = {
        "REQUEST_METHOD": "GET" if path == "/healthz" else "POST",
        "PATH_INFO": path.partition("?")[0],
        "QUERY_STRING": path.partition("?")[2],
        "CONTENT_LENGTH": str(len(data)),
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.input": io.BytesIO(data),
    }
    for _ in app(environ, lambda status, headers: seen.append((status, headers))):  # type: ignore[arg-type]  # nobody calls write()
        pass
    status, headers = seen[0]
    return int(status.split()[0]), dict(headers)


@pytest.fixture
def channel(rootstream: RootStream) -> tuple[Stream, SecretText]:
    with rootstream.transaction() as work:
        return rootstream.streams.create(work, owner=make_user(work), name="Speedrun")


def nginx(kind: str, name: str, connection: int = 17) -> str:
    return f"app=live&addr=203.0.113.9&clientid={connection}&call={kind}&name={name}"


def test_nginx_publishes_under_the_public_id(
    rootstream: RootStream, channel: tuple[Stream, SecretText]
):
    stream, key = channel
    app = application(rootstream)

    status, headers = call(app, "/nginx-rtmp?node=edge-1", nginx("publish", key))

    assert (302, str(stream.public_id)) == (status, headers["Location"])
    assert 204 == call(app, "/nginx-rtmp?node=edge-1", nginx("update_publish", key))[0]
    assert 204 == call(app, "/nginx-rtmp", nginx("play", str(stream.public_id), 18))[0]
    assert 403 == call(app, "/nginx-rtmp", nginx("play", key, 18))[0]
    assert 204 == call(app, "/nginx-rtmp?node=edge-1", nginx("publish_done", key))[0]
    assert 403 == call(app, "/nginx-rtmp?node=edge-1", nginx("update_publish", key))[0]


def test_mediamtx_knows_a_publisher_by_path_and_id(
    rootstream: RootStream, channel: tuple[Stream, SecretText]
):
    stream, key = channel
    app = application(rootstream)
    connection = str(uuid.uuid4())
    asked = {
        "action": "publish",
        "path": f"live/{stream.public_id}",
        "id": connection,
        "protocol": "srt",
        "ip": "203.0.113.9",
    }
    report = f"path=live/{stream.public_id}&id={connection}"

    assert 401 == call(app, "/mediamtx/auth", orjson.dumps(asked))[0]
    assert 403 == call(app, "/mediamtx/auth", orjson.dumps({**asked, "password": "x"}))[0]
    assert 204 == call(app, "/mediamtx/auth", orjson.dumps({**asked, "password": key}))[0]
    assert 204 == call(app, "/mediamtx/update", report)[0]
    assert 403 == call(app, "/mediamtx/update", f"{report}x")[0]
    assert 204 == call(app, "/mediamtx/unpublish", report)[0]
    assert 403 == call(app, "/mediamtx/update", report)[0]


def test_srs_is_answered_in_its_own_terms(
    rootstream: RootStream, channel: tuple[Stream, SecretText]
):
    stream, key = channel
    app = application(rootstream)
    fields = {"client_id": "9308h583", "server_id": "vid-1", "stream": str(stream.public_id)}

    def callback(action: str, param: str = "") -> Any:
        body = orjson.dumps({**fields, "action": action, "param": param})
        answered = app._answer(
            {
                "REQUEST_METHOD": "POST",
                "PATH_INFO": "/srs",
                "CONTENT_LENGTH": str(len(body)),
                "wsgi.input": io.BytesIO(body),
            }
        )
        assert 200 == answered.status.value
        return orjson.loads(answered.body)

    assert 403 == callback("on_publish")["code"]
    assert 0 == callback("on_publish", f"?key={key}")
    assert 0 == callback("on_hls", f"?key={key}")
    assert 0 == callback("on_play")
    assert 0 == callback("on_unpublish", f"?key={key}")
    assert 403 == callback("on_hls", f"?key={key}")["code"]


def test_the_same_hook_many_times_at_once_is_one_lease(
    rootstream: RootStream, channel: tuple[Stream, SecretText]
):
    _, key = channel
    app = application(rootstream)
    together = threading.Barrier(6)

    def publish(_: int) -> int:
        together.wait(10)
        return call(app, "/nginx-rtmp?node=edge-1", nginx("publish", key))[0]

    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(publish, range(6)))

    assert [302] * 6 == answers
    events = rootstream.events.read("Stream", str(channel[0].id))
    assert ["StreamStarted"] == [e.event_type for e in events if e.event_type[:9] == "StreamSta"]


def test_of_many_connections_one_publishes(
    rootstream: RootStream, channel: tuple[Stream, SecretText]
):
    _, key = channel
    app = application(rootstream)
    together = threading.Barrier(6)

    def publish(connection: int) -> int:
        together.wait(10)
        return call(app, "/nginx-rtmp?node=edge-1", nginx("publish", key, connection))[0]

    with ThreadPoolExecutor(6) as threads:
        answers = sorted(threads.map(publish, range(6)))

    assert [302, *[403] * 5] == answers


def test_events_of_a_hook_carry_the_connection_as_their_correlation(
    rootstream: RootStream, channel: tuple[Stream, SecretText]
):
    stream, key = channel

    call(application(rootstream), "/nginx-rtmp?node=edge-1", nginx("publish", key))

    (started,) = (
        event
        for event in rootstream.events.read("Stream", str(stream.id))
        if event.event_type == "StreamStarted"
    )
    assert "edge-1/17" == started.correlation_id


@pytest.fixture
def unreachable(rootstream: RootStream) -> Iterator[RootStream]:
    """The data layer with a database that nobody runs."""
    database = DatabaseSettings(url=SecretStr("postgresql://127.0.0.1:1/nothing"))
    settings = rootstream.settings.model_copy(update={"database": database})
    with RootStream(settings, clock=rootstream.clock) as away:
        yield away


def test_without_the_database_publishers_are_refused_and_the_log_says_why(
    unreachable: RootStream,
    channel: tuple[Stream, SecretText],
    caplog: pytest.LogCaptureFixture,
):
    _, key = channel
    app = application(unreachable)

    with caplog.at_level(logging.ERROR):
        answers = [
            call(app, "/nginx-rtmp", nginx(kind, key))[0] for kind in ("publish", "update_publish")
        ]

    assert [503, 503] == answers
    assert 503 == call(app, "/healthz")[0]
    assert "hook refused, cannot decide" in caplog.text
    assert key not in caplog.text


def serve(rs: RootStream, **ingest: Any) -> IngestServer:
    settings = rs.settings.model_copy(update={"ingest": IngestSettings(**{"port": 0, **ingest})})
    return IngestServer(
        rs.ingest,
        database=rs.database,
        streams=rs.streams,
        viewers=rs.viewers,
        settings=settings,
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_a_server_knows_its_own_address(rootstream: RootStream, host: str):
    with serve(rootstream, host=host) as server:
        start, _, port = server.url.rpartition(":")

    assert start in {"http://127.0.0.1", "http://[::1]"}
    assert 0 < int(port)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "203.0.113.9", "hooks.example.com"])  # noqa: S104 - refused
def test_what_others_can_reach_needs_a_token(rootstream: RootStream, host: str):
    with pytest.raises(ConfigurationError, match="hook_token"):
        serve(rootstream, host=host)


def test_with_a_token_others_may_reach_it(rootstream: RootStream):
    token = SecretStr("sixteen-or-more-characters")

    with serve(rootstream, host="0.0.0.0", hook_token=token) as server:  # noqa: S104 - any address
        assert server.url.startswith("http://0.0.0.0:")


def test_a_port_that_is_taken_is_named(rootstream: RootStream):
    with serve(rootstream) as server:
        port = int(server.url.rpartition(":")[2])
        with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}: Address already in use"):
            serve(rootstream, port=port)


def test_an_address_that_is_not_ours_is_named(rootstream: RootStream):
    token = SecretStr("sixteen-or-more-characters")

    with pytest.raises(ConfigurationError, match=r"cannot listen on 203\.0\.113\.9"):
        serve(rootstream, host="203.0.113.9", hook_token=token)


def test_without_waitress_the_message_says_what_to_install(
    rootstream: RootStream, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "waitress.server", None)

    with pytest.raises(ConfigurationError, match=r"pip install 'rootstream-db\[ingest\]'"):
        serve(rootstream)
