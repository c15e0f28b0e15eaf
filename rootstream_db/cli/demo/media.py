"""The demo's real stream: ffmpeg pushes through an unmodified nginx-rtmp into the data layer."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rootstream_db.cli.demo.told import Check
from rootstream_db.errors import CommandError

if TYPE_CHECKING:
    from pydantic import SecretStr

    from rootstream_db.models import Recording, Stream
    from rootstream_db.rootstream import RootStream
    from rootstream_db.security.tokens import SecretText

PACKAGE: Final = Path(__file__).parents[2]
RTMP_MODULE: Final = Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")
SECONDS: Final = 4
"""Length of the test picture that is pushed."""
PATIENCE: Final = 30.0
"""Seconds until a step that did not happen counts as failed."""
_SERVE: Final = "from rootstream_db.cli.app import main; main()"
_PICTURE: Final = ("-re", "-f", "lavfi", "-i", "testsrc=size=320x180:rate=15")
_SOUND: Final = ("-f", "lavfi", "-i", "sine=sample_rate=44100")
_ENCODER: Final = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "15", "-c:a", "aac")


@dataclass(frozen=True)
class Programs:
    """What a real stream needs beside us."""

    nginx: str
    ffmpeg: str


def find_programs() -> Programs | None:
    """Return nginx with its RTMP module and ffmpeg, or None where one of them is missing."""
    nginx, ffmpeg = shutil.which("nginx", path=f"{os.defpath}:/usr/sbin"), _find_ffmpeg()
    if nginx is None or ffmpeg is None or not RTMP_MODULE.exists():
        return None
    return Programs(nginx, ffmpeg)


def push_a_stream(
    rs: RootStream, programs: Programs, folder: Path, *, stream: Stream, key: SecretText
) -> list[Check]:
    """Publish a test picture, wait until it is over, and compare its file with what was stored.

    Raises:
        CommandError: a program failed, or a step did not happen in time.
    """
    recordings = folder / "recordings"
    recordings.mkdir()
    recordings.chmod(0o777)  # nginx's worker may be another user
    with _hook_server(rs, folder) as hooks_url, _nginx(programs, folder, hooks_url) as rtmp_url:
        _publish(programs, f"{rtmp_url}/{key}")
        _wait(lambda: bool(_recordings(rs, stream)), "the recording is registered")
        _wait(lambda: not _is_open(rs, stream), "the broadcast is over")
    return _compare(_recordings(rs, stream))


def _compare(stored: list[Recording]) -> list[Check]:
    files = [Path(row.file_path).read_bytes() for row in stored]
    same = sum(
        hashlib.sha256(data).digest() == row.sha256 for data, row in zip(files, stored, strict=True)
    )
    sizes = sum(row.size_bytes for row in stored)
    return [
        Check("real stream: recorded bytes", sum(map(len, files)), sizes),
        Check("real stream: recordings with the file's SHA-256", len(files), same),
    ]


def _recordings(rs: RootStream, stream: Stream) -> list[Recording]:
    with rs.database.read() as work:
        return list(work.recordings.list_by_stream(stream.id))


def _is_open(rs: RootStream, stream: Stream) -> bool:
    with rs.database.read() as work:
        return work.stream_sessions.get_open(stream.id) is not None


def _publish(programs: Programs, url: str) -> None:
    command = [programs.ffmpeg, "-v", "error", *_PICTURE, *_SOUND, "-t", str(SECONDS)]
    result = subprocess.run(  # noqa: S603 - an argument list, no shell
        [*command, *_ENCODER, "-f", "flv", url],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE + SECONDS,
        check=False,
    )
    if result.returncode != 0:
        # The URL holds the stream key.
        message = result.stderr.replace(url, "rtmp://…")[-500:]
        raise CommandError("ffmpeg", exit_code=result.returncode, stderr=message)


@contextmanager
def _hook_server(rs: RootStream, folder: Path) -> Iterator[str]:
    port = _free_port()
    settings = rs.settings
    surroundings = {
        "ROOTSTREAM_DATABASE_URL": _shown(settings.database.url),
        "ROOTSTREAM_REDIS_URL": _shown(settings.redis.url),
        "ROOTSTREAM_SECURITY__TOKEN_PEPPERS": _shown(settings.security.token_peppers),
        "ROOTSTREAM_SECURITY__MASTER_KEYS": _shown(settings.security.master_keys),
        "ROOTSTREAM_INGEST__RECORDINGS_DIRECTORY": str(folder / "recordings"),
    }
    command = [sys.executable, "-c", _SERVE, "ingest", "serve", "--port", str(port)]
    with _running("the hook server", command, folder / "hooks.log", surroundings, port=port):
        yield f"http://127.0.0.1:{port}"


def _shown(secret: SecretStr | None) -> str:
    return "" if secret is None else secret.get_secret_value()


@contextmanager
def _nginx(programs: Programs, folder: Path, hooks_url: str) -> Iterator[str]:
    port = _free_port()
    text = _example().read_text(encoding="utf-8")
    for documented, ours in (
        ("listen 1935;", f"listen 127.0.0.1:{port};"),
        ("http://127.0.0.1:8935", hooks_url),
        ("/var/lib/rootstream/recordings", str(folder / "recordings")),
        ("/var/log/nginx/error.log", str(folder / "nginx-error.log")),
        ("/run/nginx.pid", str(folder / "nginx.pid")),
    ):
        text = text.replace(documented, ours)
    path = folder / "nginx.conf"
    path.write_text(f"daemon off;\nmaster_process off;\n{text}", encoding="utf-8")
    command = [programs.nginx, "-p", str(folder), "-c", str(path), "-e", str(folder / "early.log")]
    with _running("nginx", command, folder / "nginx.log", {}, port=port):
        yield f"rtmp://127.0.0.1:{port}/live"


@contextmanager
def _running(
    name: str, command: list[str], log: Path, surroundings: Mapping[str, str], *, port: int
) -> Iterator[None]:
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - an argument list, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=log.parent,
            # Ours alone: the variables of whoever runs the demo may name servers in production.
            env={"PATH": os.defpath, "PYTHONPATH": str(PACKAGE.parent), **surroundings},
        )
    try:
        _wait(lambda: _answers(port) or process.poll() is not None, f"{name} answers")
        if process.poll() is not None:
            last_words = log.read_text(encoding="utf-8", errors="replace").strip()[-500:]
            raise CommandError(name, exit_code=process.returncode, stderr=last_words)
        yield
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _example() -> Path:
    """Return the documented configuration: in the checkout, or as the wheel carries it."""
    documented = PACKAGE.parent / "docs" / "examples" / "nginx-rtmp.conf"
    return documented if documented.exists() else PACKAGE / "_examples" / "nginx-rtmp.conf"


def _find_ffmpeg() -> str | None:
    found = shutil.which("ffmpeg")
    if found is None:
        try:
            import imageio_ffmpeg
        except ImportError:
            return None
        found = str(imageio_ffmpeg.get_ffmpeg_exe())
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        if time.monotonic() > deadline:
            raise CommandError(what, exit_code=1, stderr=f"not within {PATIENCE:.0f} s")
        time.sleep(0.05)
