"""A real RTMP stream: ffmpeg pushes through Debian's nginx-rtmp, hooks reach the real hook server.

nginx runs with docs/examples/nginx-rtmp.conf, on loopback, in a folder of the test's own. Lease
and grace are a second each, so that what must not stay live is seen to end.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import imageio_ffmpeg
import pytest

from rootstream_db.models import EndReason, Recording, Stream, StreamSession
from rootstream_db.rootstream import RootStream
from rootstream_db.security.tokens import SecretText, new_token
from rootstream_db.services.streams import LiveState
from rootstream_db.testing import settings_for
from tests.factories import make_user

CHECKOUT = Path(__file__).resolve().parents[2]
EXAMPLE = CHECKOUT / "docs" / "examples" / "nginx-rtmp.conf"
MODULE = Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")
LEASE = 1.0
GRACE = 1.0
UPDATE = 0.3
IDLE = 1.0
PATIENCE = 15.0
PICTURE = "-re -f lavfi -i testsrc=size=64x48:rate=10 -f lavfi -i sine=sample_rate=22050"
ENCODER = "-c:v libx264 -preset ultrafast -tune zerolatency -g 5 -c:a aac"
SERVE = [sys.executable, "-c", "from rootstream_db.cli.app import main; main()", "ingest", "serve"]

pytestmark = [
    pytest.mark.media,
    pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed"),
    pytest.mark.skipif(not MODULE.exists(), reason="libnginx-mod-rtmp is not installed"),
]

T = TypeVar("T")


def eventually(look: Callable[[], T], what: str, *, within: float = PATIENCE) -> T:
    """Look again and again until there is something to see."""
    deadline = time.monotonic() + within
    while not (seen := look()):
        assert time.monotonic() < deadline, f"{what}: not within {within} s"
        time.sleep(0.03)
    return seen


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Program:
    """A process of this test, ended with it."""

    def __init__(self, command: list[str], log: Path, **environment: str) -> None:
        self._log = log.open("ab")
        self.process = subprocess.Popen(
            command,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **environment},
        )

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()
        self._log.close()

    def stop(self) -> int:
        """Ask it to end."""
        self.process.terminate()
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.kill()


class Site:
    """One media server and one hook server, as an operator would run them."""

    def __init__(self, folder: Path, database_url: str, redis_url: str) -> None:
        self.folder = folder
        self.rtmp_port, self.hook_port = free_port(), free_port()
        self.recordings = folder / "recordings"
        self.recordings.mkdir()
        self.recordings.chmod(0o777)  # nginx's worker may be another user
        self.environment = {
            "ROOTSTREAM_DATABASE_URL": database_url,
            "ROOTSTREAM_REDIS_URL": redis_url,
            "ROOTSTREAM_STREAMS__LEASE_TTL": f"{LEASE}s",
            "ROOTSTREAM_STREAMS__RECONNECT_GRACE": f"{GRACE}s",
            "ROOTSTREAM_INGEST__RECORDINGS_DIRECTORY": str(self.recordings),
        }
        settings = settings_for(database_url, redis_url)
        streams = settings.streams.model_copy(
            update={
                "lease_ttl": timedelta(seconds=LEASE),
                "reconnect_grace": timedelta(seconds=GRACE),
            }
        )
        self.rs = RootStream(settings.model_copy(update={"streams": streams}))
        self.nginx = Program(self._nginx(), folder / "nginx.log")
        self.hooks = self.start_hooks()

    def _nginx(self) -> list[str]:
        """Return the command for the documented configuration, with other ports and times."""
        text = EXAMPLE.read_text(encoding="utf-8")
        for documented, ours in (
            ("listen 1935;", f"listen 127.0.0.1:{self.rtmp_port};"),
            ("127.0.0.1:8935", f"127.0.0.1:{self.hook_port}"),
            ("/var/lib/rootstream/recordings", str(self.recordings)),
            ("/var/log/nginx/error.log", str(self.folder / "nginx-error.log")),
            ("/run/nginx.pid", str(self.folder / "nginx.pid")),
            ("notify_update_timeout 5s", f"notify_update_timeout {int(UPDATE * 1000)}ms"),
            ("drop_idle_publisher 10s", f"drop_idle_publisher {int(IDLE * 1000)}ms"),
        ):
            assert documented in text
            text = text.replace(documented, ours)
        path = self.folder / "nginx.conf"
        path.write_text(f"daemon off;\nmaster_process off;\n{text}", encoding="utf-8")
        return ["nginx", "-p", str(self.folder), "-c", str(path), "-e", str(self.folder / "early")]

    def start_hooks(self) -> Program:
        hooks = Program(
            [*SERVE, "--port", str(self.hook_port)],
            self.folder / "hooks.log",
            **self.environment,
        )
        eventually(lambda: hooks.ended or self.healthy(), "the hook server answers")
        assert not hooks.ended, self.log("hooks.log")
        return hooks

    def healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.hook_port}/healthz") as answer:
                return bool(200 == answer.status)
        except OSError:
            return False

    def publish(self, key: str, *, seconds: float = 60, name: str = "ffmpeg.log") -> Program:
        """Push a test picture in real time, as an encoder does."""
        url = f"rtmp://127.0.0.1:{self.rtmp_port}/live/{key}"
        program = imageio_ffmpeg.get_ffmpeg_exe()
        command = f"{program} -v error {PICTURE} -t {seconds} {ENCODER} -f flv"
        return Program([*shlex.split(command), url], self.folder / name)

    def watch(self, name: str, *, seconds: float) -> Program:
        url = f"rtmp://127.0.0.1:{self.rtmp_port}/live/{name}"
        program = imageio_ffmpeg.get_ffmpeg_exe()
        command = [program, "-v", "error", "-i", url, "-t", str(seconds), "-f", "null", "-"]
        return Program(command, self.folder / "viewer.log")

    def log(self, name: str) -> str:
        path = self.folder / name
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def close(self) -> None:
        for program in (self.nginx, self.hooks):
            if not program.ended:
                program.kill()
        self.rs.close()


class Channel:
    """One stream of the site and what is known about it."""

    def __init__(self, site: Site) -> None:
        self.site, self.rs = site, site.rs
        with self.rs.transaction() as work:
            self.stream: Stream
            self.key: SecretText
            self.stream, self.key = self.rs.streams.create(
                work, owner=make_user(work), name="Speedrun"
            )

    @property
    def state(self) -> LiveState:
        """What is stored, past every cache."""
        with self.rs.database.read() as work:
            found = work.stream_live.get_with_session(self.stream.id)
        assert found is not None
        live, session = found
        if session is None:
            return LiveState.OFFLINE
        return LiveState.LIVE if live.is_live else LiveState.RECONNECTING

    @property
    def lease_end(self) -> Any:
        with self.rs.database.read() as work:
            live = work.stream_live.get_one(self.stream.id)
        return live.lease_expires_at

    @property
    def sessions(self) -> list[StreamSession]:
        with self.rs.database.read() as work:
            return list(reversed(work.stream_sessions.list_by_stream(self.stream.id)))

    @property
    def recordings(self) -> list[Recording]:
        with self.rs.database.read() as work:
            return list(reversed(work.recordings.list_by_stream(self.stream.id)))

    @property
    def history(self) -> list[Any]:
        return list(self.rs.events.read("Stream", str(self.stream.id)))[2:]

    def is_live(self) -> bool:
        return self.state is LiveState.LIVE

    def is_offline(self) -> bool:
        return self.state is LiveState.OFFLINE

    def wait_live(self) -> None:
        eventually(self.is_live, "the stream is live")

    def wait_over(self) -> None:
        """Wait for the end that nobody announces: lease, grace and the reaper's interval."""
        eventually(self.is_offline, "the stream is over")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    # Not below pytest's folders: nginx's worker may be another user and must get in.
    path = Path(tempfile.mkdtemp(prefix="rs-live-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def site(folder: Path, worker_database_url: str, worker_redis_url: str) -> Iterator[Site]:
    site = Site(folder, worker_database_url, worker_redis_url)
    yield site
    site.close()


@pytest.fixture
def channel(site: Site, clean_database_url: str) -> Channel:
    if site.hooks.ended:
        site.hooks = site.start_hooks()
    return Channel(site)


@pytest.fixture
def publish(site: Site) -> Iterator[Callable[..., Program]]:
    """Start publishers that end with the test."""
    started: list[Program] = []

    def start(key: str, **options: Any) -> Program:
        started.append(site.publish(key, **options))
        return started[-1]

    yield start
    for program in started:
        program.kill()


def test_a_good_key_goes_live_is_watched_recorded_and_ends(
    site: Site, channel: Channel, publish: Callable[..., Program]
):
    encoder = publish(channel.key, seconds=3)
    channel.wait_live()
    first_lease = channel.lease_end
    viewer = site.watch(str(channel.stream.public_id), seconds=1)

    eventually(lambda: site.rs.viewers.count(channel.stream.id) == 1, "the viewer is counted")
    eventually(lambda: channel.lease_end > first_lease, "a heartbeat renews the lease")
    second_lease = channel.lease_end
    eventually(lambda: channel.lease_end > second_lease, "so does the next")
    eventually(lambda: viewer.ended, "the viewer leaves")
    eventually(lambda: encoder.ended, "the encoder is done")
    assert 0 == encoder.process.returncode, site.log("ffmpeg.log")
    eventually(lambda: channel.recordings, "the recording is registered")
    channel.wait_over()

    (recording,) = channel.recordings
    (file,) = site.recordings.glob(f"{channel.stream.public_id}-*.flv")
    content = file.read_bytes()
    assert (str(file.resolve()), len(content)) == (recording.file_path, recording.size_bytes)
    assert hashlib.sha256(content).digest() == recording.sha256
    assert ("h264", "aac", 64, 48) == (
        recording.video_codec,
        recording.audio_codec,
        recording.width,
        recording.height,
    )
    assert recording.duration_seconds is not None
    assert 2.0 < recording.duration_seconds < 4.0

    (session,) = channel.sessions
    assert (EndReason.GRACE_EXPIRED, session.id) == (
        session.end_reason,
        recording.stream_session_id,
    )
    eventually(lambda: site.rs.viewers.count(channel.stream.id) == 0, "nobody is counted")


def test_every_step_is_an_event_and_the_events_add_up(
    channel: Channel, publish: Callable[..., Program]
):
    publish(channel.key, seconds=1.5)
    channel.wait_live()
    eventually(lambda: channel.recordings, "the recording is registered")
    channel.wait_over()

    steps = [event.event_type for event in channel.history]
    assert "StreamStarted" == steps[0]
    assert "StreamEnded" == steps[-1]
    assert {"StreamDisconnected", "RecordingAdded"} == set(steps[1:-1])

    def apply(totals: dict[str, Any], event: Any) -> dict[str, Any]:
        data = event.data
        if event.event_type == "RecordingAdded":
            totals["recorded"] = totals.get("recorded", 0) + data["size_bytes"]
        if event.event_type == "StreamEnded":
            totals.update({name: data[name] for name in ("reconnects", "end_reason", "ended_at")})
        return totals

    replayed: dict[str, Any] = functools.reduce(apply, channel.history, {})
    (session,) = channel.sessions
    assert session.ended_at is not None
    assert {
        "recorded": sum(recording.size_bytes for recording in channel.recordings),
        "reconnects": session.reconnects,
        "end_reason": session.end_reason,
        "ended_at": session.ended_at.isoformat(),
    } == replayed


def wrong(channel: Channel) -> str:
    return new_token("rsk")


def revoked(channel: Channel) -> str:
    with channel.rs.transaction() as work:
        row, key = channel.rs.streams.issue_key(work, channel.stream)
        channel.rs.streams.revoke_key(work, row)
    return key


def expired(channel: Channel) -> str:
    with channel.rs.transaction() as work:
        expires_at = work.now + timedelta(milliseconds=200)
        row, key = channel.rs.streams.issue_key(work, channel.stream, expires_at=expires_at)
    eventually(lambda: row.refusal(channel.rs.clock()), "the key expires")
    return key


def public_id(channel: Channel) -> str:
    return str(channel.stream.public_id)


@pytest.mark.parametrize("make", [wrong, revoked, expired, public_id])
def test_a_bad_key_is_refused_before_a_byte_is_stored(
    site: Site,
    channel: Channel,
    publish: Callable[..., Program],
    make: Callable[[Channel], str],
):
    files = set(site.recordings.iterdir())
    encoder = publish(make(channel))

    eventually(lambda: encoder.ended, "the encoder is thrown out")
    assert 0 != encoder.process.returncode
    assert files == set(site.recordings.iterdir())
    assert [] == channel.sessions


def test_viewers_cannot_use_the_key_and_do_not_learn_it(
    site: Site, channel: Channel, publish: Callable[..., Program]
):
    publish(channel.key)
    channel.wait_live()

    by_key = site.watch(channel.key, seconds=0.5)
    eventually(lambda: by_key.ended, "a viewer who knows the key is refused")
    by_public_id = site.watch(str(channel.stream.public_id), seconds=0.5)
    eventually(lambda: by_public_id.ended, "a viewer who knows the public id watches")

    assert (True, 0) == (0 != by_key.process.returncode, by_public_id.process.returncode)
    for log in ("hooks.log", "nginx-error.log", "nginx.log"):
        assert channel.key not in site.log(log)
    assert [] == [file for file in site.recordings.iterdir() if channel.key in file.name]


def test_a_private_stream_is_not_shown(
    site: Site, channel: Channel, publish: Callable[..., Program]
):
    with site.rs.transaction() as work:
        stream = work.streams.get_one(channel.stream.id)
        site.rs.streams.update(work, stream, visibility="private")
    publish(channel.key)
    channel.wait_live()

    viewer = site.watch(str(channel.stream.public_id), seconds=0.5)

    eventually(lambda: viewer.ended, "the viewer is refused")
    assert 0 != viewer.process.returncode


def test_a_client_cannot_pass_for_another_by_what_it_appends(
    site: Site, channel: Channel, publish: Callable[..., Program]
):
    publish(f"{channel.key}?addr=10.0.0.1&clientid=4711&call=publish_done&node=evil")
    channel.wait_live()

    with site.rs.database.read() as work:
        live = work.stream_live.get_one(channel.stream.id)
    assert live.lease_owner is not None
    assert re.fullmatch(r"edge-1/\d+", live.lease_owner)
    assert "edge-1/4711" != live.lease_owner
    assert "127.0.0.1" == channel.history[0].metadata["ip_address"]


def test_revoking_the_key_ends_the_broadcast_at_the_media_server_too(
    site: Site, channel: Channel, publish: Callable[..., Program]
):
    encoder = publish(channel.key)
    channel.wait_live()

    with site.rs.transaction() as work:
        (row,) = work.stream_keys.list_by_stream(channel.stream.id)
        site.rs.streams.revoke_key(work, row)

    eventually(lambda: encoder.ended, "nginx closes the connection")
    assert channel.is_offline()
    assert [EndReason.KEY_REVOKED] == [session.end_reason for session in channel.sessions]


def test_a_killed_encoder_may_come_back_and_is_over_if_it_does_not(
    channel: Channel, publish: Callable[..., Program]
):
    encoder = publish(channel.key)
    channel.wait_live()
    encoder.kill()
    eventually(lambda: not channel.is_live(), "the stream waits for its publisher")

    again = publish(channel.key)
    channel.wait_live()
    again.kill()
    channel.wait_over()

    assert [(1, EndReason.GRACE_EXPIRED)] == [
        (session.reconnects, session.end_reason) for session in channel.sessions
    ]


def test_a_frozen_encoder_does_not_stay_live(channel: Channel, publish: Callable[..., Program]):
    """Its connection stays open and nginx goes on sending updates, for a while."""
    encoder = publish(channel.key)
    channel.wait_live()
    encoder.process.send_signal(signal.SIGSTOP)

    channel.wait_over()


@pytest.mark.parametrize("moment", [0.0, 0.2, 0.5])
def test_a_killed_hook_server_leaves_nothing_live(
    site: Site, channel: Channel, publish: Callable[..., Program], moment: float
):
    """At the start, between and during heartbeats; the encoder goes on for as long as it may."""
    encoder = publish(channel.key)
    if moment:
        channel.wait_live()
        started = time.monotonic()
        eventually(lambda: time.monotonic() > started + moment, "its moment")
    site.hooks.kill()

    eventually(lambda: encoder.ended, "without an answer nginx throws the encoder out")
    site.hooks = site.start_hooks()
    channel.wait_over()

    encoder = publish(channel.key)
    channel.wait_live()
    assert not encoder.ended


def test_encoder_and_hook_server_killed_together_leave_nothing_live(
    site: Site, channel: Channel, publish: Callable[..., Program]
):
    encoder = publish(channel.key)
    channel.wait_live()
    site.hooks.kill()
    encoder.kill()

    site.hooks = site.start_hooks()

    channel.wait_over()
    assert [EndReason.GRACE_EXPIRED] == [session.end_reason for session in channel.sessions]


def test_a_hook_server_that_is_asked_to_stop_stops(site: Site, channel: Channel):
    assert 0 == site.hooks.stop(), site.log("hooks.log")


def test_two_hook_servers_cannot_have_one_port(site: Site, channel: Channel):
    second = subprocess.run(
        [*SERVE, "--port", str(site.hook_port)],
        env={**os.environ, **site.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert 78 == second.returncode
    assert re.fullmatch(
        r"error: cannot listen on 127.0.0.1:\d+: Address already in use\n", second.stderr
    )
