"""What embedded PostgreSQL and Redis have in common: start or adopt, use together, stop."""

from __future__ import annotations

import atexit
import os
import re
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from rootstream_db.embedded.folder import ServerFolder
from rootstream_db.embedded.guard import Membership
from rootstream_db.embedded.process import Deadline, disown, is_server, reap, terminate
from rootstream_db.embedded.run_as import RunAs, choose_run_as
from rootstream_db.errors import EmbeddedServerError

if TYPE_CHECKING:
    import subprocess
    from typing import Self

Mode: TypeAlias = Literal["owned", "shared"]

_PORT_TAKEN = "Address already in use"
_PORT_ATTEMPTS = 5
_START_SECONDS = 60.0
_STOP_SECONDS = 60.0


@dataclass(frozen=True)
class Endpoint:
    """Where a running server is found: its process, its socket's folder and its TCP port."""

    pid: int
    socket_folder: Path
    port: int | None


class EmbeddedServer(ABC):
    """A real server in a folder.

    ``mode="owned"``: the server lives as long as somebody uses it. The process that starts it
    and those that adopt it count alike; the last to leave stops it, and when the last is killed
    a guard process does. ``mode="shared"``: it runs on until ``shutdown()``.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        path: Path | str,
        *,
        port: int | None,
        tcp: bool,
        mode: Mode,
        run_as: str | None,
    ) -> None:
        self._folder = ServerFolder(path, self.kind)
        self._port = port
        self._tcp = tcp or port is not None
        self._mode = mode
        self._account_name = run_as
        self._endpoint: Endpoint | None = None
        self._membership = Membership(self._folder)
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}, mode={self._mode!r})"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def path(self) -> Path:
        """Return the server's folder."""
        return self._folder.path

    def start(self) -> Self:
        """Start the server, or adopt the one that runs on this folder, and wait until it answers.

        Raises:
            EmbeddedServerError: it cannot be started; the message carries the server's reason.
        """
        self._forget_parent()
        if self._endpoint is not None and self.is_running():
            return self
        deadline = Deadline(_START_SECONDS)
        self._folder.create()
        with self._folder.locked(deadline):
            self._membership.leave()
            self._start_or_adopt(deadline)
        atexit.register(self._at_exit)
        return self

    def stop(self) -> None:
        """Leave the server; an owned one is stopped by the last who leaves. May be called twice."""
        self._forget_parent()
        atexit.unregister(self._at_exit)
        endpoint, self._endpoint = self._endpoint, None
        if endpoint is None:
            return
        with self._folder.locked(Deadline(_STOP_SECONDS)):
            last = self._mode == "owned" and self._membership.owned() and self._membership.is_last()
            if last:
                self._terminate(endpoint.pid)
            self._membership.leave()
        self._let_go(stopped=last)

    def shutdown(self) -> None:
        """Stop the server now, whoever else uses it and in whichever mode it runs."""
        self._forget_parent()
        atexit.unregister(self._at_exit)
        self._endpoint = None
        self._folder.create()
        with self._folder.locked(Deadline(_STOP_SECONDS)):
            running = self._running()
            if running is not None:
                self._terminate(running.pid)
            self._membership.leave()
        self._let_go(stopped=True)

    def is_running(self) -> bool:
        """Return whether a server runs on this folder, no matter who started it."""
        return self._running() is not None

    @property
    @abstractmethod
    def version(self) -> str:
        """Return the release of the server programs."""

    @abstractmethod
    def _running(self) -> Endpoint | None:
        """Return the live server on this folder."""

    @abstractmethod
    def _prepare(self, run_as: RunAs) -> None:
        """Make what the server needs on disk before its first start."""

    @abstractmethod
    def _launch(self, run_as: RunAs, port: int | None) -> subprocess.Popen[bytes]:
        """Start the process; the caller waits for it."""

    @abstractmethod
    def _answers(self, endpoint: Endpoint) -> bool:
        """Return whether the server serves requests."""

    @abstractmethod
    def _reason(self, log: str) -> str | None:
        """Return the line of the log that says why the server ended."""

    def _mark(self) -> str:
        """Return an argument that only this folder's server has on its command line."""
        return str(self._folder.data)

    def _started(self) -> Endpoint:
        if self._endpoint is None or self._pid != os.getpid():
            msg = f"the embedded {self.kind} server in {self.path} is not started"
            raise EmbeddedServerError(msg, path=self.path)
        return self._endpoint

    def _start_or_adopt(self, deadline: Deadline) -> None:
        while (running := self._running()) is not None:
            self._refuse_other_port(running)
            if self._adopt(running, deadline):
                self._endpoint = running
                return
        self._start_new(deadline)

    def _adopt(self, running: Endpoint, deadline: Deadline) -> bool:
        """Use a server that runs already; False means that it has gone in the meantime."""
        if self._mode == "owned":
            joined = self._membership.join(running.pid, self._mark())
        else:
            joined = self._membership.release()
        if not joined:
            self._terminate(running.pid)
            return False
        ready = deadline.wait(lambda: self._answers(running) or not self._alive(running))
        if not ready:
            self._membership.leave()
            msg = f"the {self.kind} server (process {running.pid}) on {self.path} does not answer"
            raise EmbeddedServerError(msg, pid=running.pid)
        return self._alive(running)

    def _start_new(self, deadline: Deadline) -> None:
        run_as = choose_run_as(self._account_name, self._folder.data, self._folder.path)
        self._refuse_unreachable(run_as)
        self._prepare(run_as)
        if self._mode == "owned":
            self._membership.announce()
        else:
            self._membership.release()
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            try:
                self._start_once(run_as, deadline)
            except _PortTakenError as taken:
                if self._port is not None or attempt == _PORT_ATTEMPTS:
                    raise EmbeddedServerError(str(taken), port=taken.port) from None
            else:
                return

    def _start_once(self, run_as: RunAs, deadline: Deadline) -> None:
        port = (self._port or _free_port()) if self._tcp else None
        logged = self._folder.log.stat().st_size if self._folder.log.exists() else 0
        process = self._process = self._launch(run_as, port)
        try:
            if self._mode == "owned":
                self._membership.enter(process.pid, self._mark())
            endpoint = Endpoint(process.pid, self._folder.socket_folder(run_as), port)
            deadline.wait(lambda: process.poll() is not None or self._answers(endpoint))
            if process.poll() is not None or not self._answers(endpoint):
                raise self._failure(port, logged)
        except BaseException:
            self._terminate(process.pid)
            reap(process)
            self._membership.leave()
            self._membership.reap_guard()
            raise
        self._endpoint = endpoint

    def _failure(self, port: int | None, logged: int) -> Exception:
        log = self._folder.log.read_bytes()[logged:].decode("utf-8", "replace")
        if port is not None and _PORT_TAKEN in log:
            return _PortTakenError(self.kind, port)
        reason = self._reason(log) or f"it did not answer within {_START_SECONDS:g} s"
        msg = f"the embedded {self.kind} server in {self.path} did not start: {reason}"
        return EmbeddedServerError(msg, path=self.path, log=self._folder.log)

    def _refuse_other_port(self, running: Endpoint) -> None:
        if self._tcp and running.port is None:
            msg = f"the {self.kind} server on {self.path} already runs without a TCP port: stop it first"
            raise EmbeddedServerError(msg, path=self.path)
        if self._port is not None and running.port != self._port:
            msg = f"the {self.kind} server on {self.path} already runs on port {running.port}"
            raise EmbeddedServerError(f"{msg}, not {self._port}: stop it first", path=self.path)

    def _refuse_unreachable(self, run_as: RunAs) -> None:
        if (part := run_as.unreachable_part(self.path)) is None:
            return
        msg = (
            f"the account {run_as.name}, which the {self.kind} server runs as, may not enter {part}: "
            "choose a folder outside of it (e.g. under /var/lib), or pass run_as with an account "
            "that may"
        )
        raise EmbeddedServerError(msg, path=self.path, run_as=run_as.name)

    def _alive(self, endpoint: Endpoint) -> bool:
        return is_server(endpoint.pid, self._mark())

    def _terminate(self, pid: int) -> None:
        terminate(pid, self._mark(), seconds=_STOP_SECONDS)

    def _let_go(self, *, stopped: bool) -> None:
        if stopped:
            reap(self._process)
            self._membership.reap_guard()
        else:
            disown(self._process)
            self._membership.disown_guard()
        self._process = None

    def _forget_parent(self) -> None:
        """Start afresh in a forked child: the running server is its parent's."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._endpoint = None
            disown(self._process)
            self._process = None
            self._membership = Membership(self._folder)

    def _at_exit(self) -> None:
        if self._pid == os.getpid():
            with suppress(EmbeddedServerError, OSError):
                self.stop()


class _PortTakenError(Exception):
    def __init__(self, kind: str, port: int) -> None:
        super().__init__(f"port {port} on 127.0.0.1 is taken: the {kind} server cannot listen on it")
        self.port = port


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def last_line(log: str, pattern: re.Pattern[str], *, without: str = "") -> str | None:
    """Return the text after ``pattern`` in the last line that has it."""
    for line in reversed(log.splitlines()):
        match = pattern.search(line)
        if match and not (without and without in line):
            return match[0].strip()
    return None
