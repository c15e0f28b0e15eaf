"""An nginx, a hook server and a stream, as an operator would run them: for live tests."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import imageio_ffmpeg

from rootstream_db.models import Recording, Stream, StreamSession
from rootstream_db.rootstream import RootStream
from rootstream_db.security.tokens import SecretText
from rootstream_db.services.streams import LiveState
from rootstream_db.testing import settings_for
from tests.factories import make_user

CHECKOUT = Path(__file__).resolve().parents[2]
EXAMPLE = CHECKOUT / "docs" / "examples" / "nginx-rtmp.conf"
HOW_TO = CHECKOUT / "docs" / "how-to" / "connect-nginx-rtmp.md"
# Users other than root seldom have the folder of servers in their PATH.
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
LEASE = 1.0
GRACE = 1.0
UPDATE = 0.3
IDLE = 1.0
PATIENCE = 30.0
PICTURE = "-re -f lavfi -i testsrc=size=64x48:rate=10 -f lavfi -i sine=sample_rate=22050"
ENCODER = "-c:v libx264 -preset ultrafast -tune zerolatency -g 5 -c:a aac"
HASTY = "-fflags nobuffer -probesize 20000 -analyzeduration 500000"
SERVE = [sys.executable, "-c", "from rootstream_db.cli.app import main; main()", "ingest", "serve"]

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


def healthy(port: int) -> bool:
    """Tell whether a hook server answers there."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as answer:
            return bool(200 == answer.status)
    except OSError:
        return False


class Program:
    """A process of this test, ended with it."""

    def __init__(self, command: list[str], log: Path, **environment: str) -> None:
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                stdout=output,
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
        self.clients: list[Program] = []
        self.servers = [Program(self._nginx(), folder / "nginx.log")]
        try:
            self.hooks = self.start_hooks()
        except BaseException:
            self.close()
            raise

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
        return [
            NGINX or "nginx",
            "-p",
            str(self.folder),
            "-c",
            str(path),
            "-e",
            str(self.folder / "early"),
        ]

    def start_hooks(self, port: int | None = None) -> Program:
        port = port or self.hook_port
        hooks = Program(
            [*SERVE, "--port", str(port)],
            self.folder / "hooks.log",
            **self.environment,
        )
        self.servers.append(hooks)
        eventually(lambda: hooks.ended or healthy(port), "the hook server answers", within=60)
        assert not hooks.ended, self.log("hooks.log")
        return hooks

    def publish(self, key: str, *, seconds: float = 60) -> Program:
        """Push a test picture in real time, as an encoder does."""
        return self._client(f"{PICTURE} -t {seconds} {ENCODER} -f flv", self.url(key), "encoder")

    def watch(self, name: str) -> Program:
        """Watch ten frames, as a player does that shows what comes as soon as it comes."""
        return self._client(HASTY, "-i", self.url(name), "-frames:v 10 -f null -", "viewer")

    def url(self, name: str) -> str:
        return f"rtmp://127.0.0.1:{self.rtmp_port}/live/{name}"

    def _client(self, *arguments: str) -> Program:
        *options, name = arguments
        program = imageio_ffmpeg.get_ffmpeg_exe()
        command = shlex.split(f"{program} -v error {' '.join(options)}")
        client = Program(command, self.folder / f"{name}.log")
        self.clients.append(client)
        return client

    def dismiss_clients(self) -> None:
        """End every encoder and viewer."""
        while self.clients:
            self.clients.pop().kill()

    def log(self, name: str) -> str:
        path = self.folder / name
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def close(self) -> None:
        self.dismiss_clients()
        for program in self.servers:
            program.kill()
        self.rs.close()


class ProxiedSite(Site):
    """Two hook servers behind nginx's own proxy, as the how-to page has it."""

    TOKEN = "the-shared-secret"

    def __init__(self, folder: Path, database_url: str, redis_url: str) -> None:
        self.second_port = free_port()
        super().__init__(folder, database_url, redis_url)

    def _nginx(self) -> list[str]:
        command = super()._nginx()
        self.environment["ROOTSTREAM_INGEST__HOOK_TOKEN"] = self.TOKEN
        proxy = free_port()
        page = HOW_TO.read_text(encoding="utf-8")
        block = page[page.index("    upstream rootstream_hooks") : page.index("\nThen point")]
        for documented, ours in (
            ("10.0.0.5:8935", f"127.0.0.1:{self.hook_port}"),
            ("10.0.0.6:8935", f"127.0.0.1:{self.second_port}"),
            ("127.0.0.1:8936", f"127.0.0.1:{proxy}"),
        ):
            assert documented in block
            block = block.replace(documented, ours)
        folders = "".join(
            f"    {kind}_temp_path {self.folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        path = self.folder / "nginx.conf"
        text = path.read_text(encoding="utf-8")
        hooks = text.replace(f"http://127.0.0.1:{self.hook_port}", f"http://127.0.0.1:{proxy}")
        path.write_text(f"{hooks}\nhttp {{\n{folders}{block}}}\n", encoding="utf-8")
        return command

    def start_second(self) -> None:
        """Run a second hook server next to the first."""
        self.start_hooks(self.second_port)


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
    def lease_end(self) -> datetime:
        with self.rs.database.read() as work:
            live = work.stream_live.get_one(self.stream.id)
        assert live.lease_expires_at is not None
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
    def recorded(self) -> int:
        """How many bytes nginx has written of this stream."""
        files = self.site.recordings.glob(f"{self.stream.public_id}-*.flv")
        return sum(file.stat().st_size for file in files)

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
