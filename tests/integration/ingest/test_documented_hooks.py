"""The configuration that the how-to pages give for media servers reaches the hook server."""

from __future__ import annotations

import io
import re
import shlex
import shutil
import subprocess
import threading
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import orjson
import pytest

from rootstream_db.models import Stream
from rootstream_db.rootstream import RootStream
from rootstream_db.security.tokens import SecretText
from rootstream_db.services.ingest import IngestApplication
from tests.factories import make_user

EXAMPLES = Path(__file__).resolve().parents[3] / "docs" / "examples"
DOCUMENTED = "http://127.0.0.1:8935"
COMMAND = re.compile(r"^  (runOn\w+): >-\n((?:    .*\n)+)", re.MULTILINE)


class Quiet(WSGIRequestHandler):
    """Leaves standard error alone."""

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def address(rootstream: RootStream) -> Iterator[str]:
    """The hook server, on a port of its own."""
    application = IngestApplication(rootstream.ingest.authorize, check=rootstream.database.ping)
    with make_server("127.0.0.1", 0, application, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def channel(rootstream: RootStream) -> tuple[Stream, SecretText]:
    with rootstream.transaction() as work:
        return rootstream.streams.create(work, owner=make_user(work), name="Speedrun")


def run(command: str, environment: Mapping[str, str], *data: str) -> int:
    """Run a command as MediaMTX does: split like a shell would, then expand variables."""
    parts = [
        re.sub(r"\$(\w+)", lambda found: environment[found[1]], part)
        for part in shlex.split(command)
    ]
    return subprocess.run([*parts, *data], check=False, timeout=30, capture_output=True).returncode


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_commands_for_mediamtx_keep_a_broadcast_and_its_viewer_alive(
    rootstream: RootStream, channel: tuple[Stream, SecretText], address: str
):
    stream, key = channel
    text = (EXAMPLES / "mediamtx.yml").read_text(encoding="utf-8")
    text = text.replace(DOCUMENTED, address)
    commands = {name: " ".join(lines.split()) for name, lines in COMMAND.findall(text)}
    asked = re.search(r"^authHTTPAddress: (\S+)$", text, re.MULTILINE)
    assert asked is not None
    source, reader, path = str(uuid.uuid4()), str(uuid.uuid4()), f"live/{stream.public_id}"
    environment = {
        "MTX_PATH": path,
        "MTX_SOURCE_ID": source,
        "MTX_READER_ID": reader,
        "MTX_SEGMENT_PATH": "/nowhere/a.mp4",
    }

    def authenticate(action: str, connection: str, **over: str) -> int:
        fields = {"action": action, "path": path, "id": connection, **over}
        return run(f"curl -fsS {asked[1]} -d", {}, orjson.dumps(fields).decode())

    assert 0 != run(commands["runOnAvailable"], environment), "nobody publishes yet"
    assert 0 == authenticate("publish", source, token=key)
    assert 0 == run(commands["runOnAvailable"], environment)
    assert 0 == authenticate("read", reader)
    assert 0 == run(commands["runOnRead"], environment)
    assert 1 == rootstream.viewers.count(stream.id)
    assert 0 == run(commands["runOnUnread"], environment)
    assert 0 == rootstream.viewers.count(stream.id)
    assert 0 == run(commands["runOnUnavailable"], environment)
    assert 0 != run(commands["runOnAvailable"], environment), "the publisher left"
    assert 0 != run(commands["runOnRecordSegmentComplete"], environment), "no directory is set"
    assert len(commands) == 5


def test_every_hook_for_srs_is_answered_in_its_terms(
    rootstream: RootStream, channel: tuple[Stream, SecretText]
):
    stream, key = channel
    text = (EXAMPLES / "srs.conf").read_text(encoding="utf-8")
    hooks = re.findall(rf"^ +(on_\w+) {re.escape(DOCUMENTED)}(/\S+);$", text, re.MULTILINE)
    application = IngestApplication(rootstream.ingest.authorize, check=rootstream.database.ping)
    names = {"on_publish", "on_hls", "on_play", "on_stop", "on_unpublish"}

    assert {*names, "on_dvr"} == {name for name, _ in hooks}
    paths = dict(hooks)
    for name in ("on_publish", "on_hls", "on_play", "on_stop", "on_unpublish"):
        fields = {
            "action": name,
            "client_id": "9308h583",
            "stream": str(stream.public_id),
            "param": f"?key={key}",
        }
        path, _, query = paths[name].partition("?")
        assert b"0" == _post(application, path, query, orjson.dumps(fields)), name


def _post(application: IngestApplication, path: str, query: str, body: bytes) -> bytes:
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
    }
    return application._answer(environ).body
