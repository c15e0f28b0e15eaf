"""Server processes: start one detached, recognise it by its command line, stop it for certain."""

from __future__ import annotations

import atexit
import errno
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from rootstream_db.embedded.run_as import RunAs
from rootstream_db.errors import EmbeddedServerError

_POLL_SECONDS = 0.01
_QUIT_SECONDS = 10.0
_EXEC_SECONDS = 10.0
_PROC = Path("/proc/self/cmdline")


class Deadline:
    """A moment on the monotonic clock after which waiting is given up."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def wait(self, condition: Callable[[], bool]) -> bool:
        """Poll until ``condition`` holds (True) or the time is up (False)."""
        while not condition():
            if time.monotonic() >= self._end:
                return False
            time.sleep(_POLL_SECONDS)
        return True


def spawn(
    command: Sequence[str],
    *,
    mark: str,
    log: int,
    life: int,
    run_as: RunAs,
    config: str | None = None,
) -> subprocess.Popen[bytes]:
    """Start a server in a session of its own, so that Ctrl-C in a terminal does not reach it.

    Args:
        command: program and arguments; secrets never belong here.
        mark: the argument it is recognised by from now on.
        log: file descriptor that takes standard output and error.
        life: file descriptor with a lock that all processes of the server are to hold.
        run_as: the account it runs as.
        config: text given on standard input, the way secrets travel.
    """
    with _standard_input(config) as stdin:
        process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=log,
            stderr=log,
            pass_fds=(life,),
            start_new_session=True,
            **run_as.popen_options(),
        )
    # A new program has no command line yet for a moment, and must not be taken for dead in it.
    Deadline(_EXEC_SECONDS).wait(lambda: is_server(process.pid, mark) or process.poll() is not None)
    return process


@contextmanager
def _standard_input(text: str | None) -> Iterator[int]:
    """Give a descriptor from which a process reads all of ``text``, even if this one dies now.

    Written after the start, the text might never come: a Redis that reads an empty configuration
    listens on every address, without a password.
    """
    if text is None:
        yield subprocess.DEVNULL
        return
    reader, writer = os.pipe()
    try:
        _write_all(writer, text.encode("utf-8", "surrogateescape"))
        yield reader
    finally:
        os.close(reader)


def _write_all(writer: int, data: bytes) -> None:
    """Fill a pipe that nobody reads yet, so that waiting for room would be for ever."""
    try:
        os.set_blocking(writer, False)
        if os.write(writer, data) < len(data):
            raise OSError(errno.E2BIG, f"{len(data)} bytes of configuration are too many")
    finally:
        os.close(writer)


def is_server(pid: int, mark: str) -> bool:
    """Return whether ``pid`` is alive and has ``mark`` among its arguments.

    The check is what makes a pid from a file safe to use: after a crash or a restart of the
    machine the number may belong to anything.
    """
    if not _PROC.exists():
        return mark in _command_line_by_ps(pid)
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(mark) in arguments


def terminate(pid: int, mark: str, *, seconds: float) -> None:
    """Stop the server ``pid``: SIGINT, and SIGQUIT when it has not gone within ``seconds``.

    Raises:
        EmbeddedServerError: it is still there after both.
    """
    for number, patience in ((signal.SIGINT, seconds), (signal.SIGQUIT, _QUIT_SECONDS)):
        if not is_server(pid, mark):
            return
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        if Deadline(patience).wait(lambda: not is_server(pid, mark)):
            return
    raise EmbeddedServerError(f"server process {pid} does not stop", pid=pid)


def reap(process: subprocess.Popen[bytes] | None) -> None:
    """Collect a child that has ended or is about to, so that it leaves no zombie."""
    if process is not None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_QUIT_SECONDS)


def disown(process: subprocess.Popen[bytes] | None) -> None:
    """Let a child outlive its handle on purpose: it serves others, or is in shared mode."""
    _disowned[:] = [child for child in (*_disowned, process) if child and child.poll() is None]


_disowned: list[subprocess.Popen[bytes]] = []


@atexit.register
def _expect_the_disowned_to_stay() -> None:
    """Keep Popen from warning about children still running: they are meant to be."""
    for process in _disowned:
        process.returncode = 0


def _command_line_by_ps(pid: int) -> str:
    shown = subprocess.run(
        ["/bin/ps", "-ww", "-p", str(pid), "-o", "args="],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    return os.fsdecode(shown.stdout)
