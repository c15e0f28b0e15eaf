"""What embedded PostgreSQL and Redis have in common: start or adopt, use together, stop."""

from __future__ import annotations

import atexit
import os
import subprocess
import weakref
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rootstream_db.embedded.endpoint import Endpoint, Launch, Options, PortTakenError, free_port
from rootstream_db.embedded.folder import ServerFolder
from rootstream_db.embedded.guard import Membership
from rootstream_db.embedded.log import PORT_TAKEN, ServerLog, last_line
from rootstream_db.embedded.process import Deadline, disown, is_server, reap, spawn, terminate
from rootstream_db.embedded.run_as import RunAs, choose_run_as
from rootstream_db.embedded.sockets import make_socket_folder, remove_socket_folder
from rootstream_db.errors import EmbeddedServerError

if TYPE_CHECKING:
    from typing import Self

_PORT_ATTEMPTS = 5


class EmbeddedServer(ABC):
    """A real server in a folder.

    In mode ``owned`` the server lives as long as somebody uses it. The process that started it
    and those that adopted it count alike: the last to leave stops it, and when the last one is
    killed, a guard process does. In mode ``shared`` it runs until ``shutdown()``; a process that
    adopts an owned server in mode shared makes it a shared one.
    """

    kind: ClassVar[str]

    def __init__(self, path: Path | str, options: Options) -> None:
        self._folder = ServerFolder(path, self.kind)
        self._log = ServerLog(self._folder)
        self._options = options
        self._tcp = options.tcp or options.port is not None
        self._endpoint: Endpoint | None = None
        self._membership = Membership(self._folder)
        self._process: subprocess.Popen[bytes] | None = None
        self._life: int | None = None
        self._user = os.getpid()
        _servers.add(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}, mode={self._options.mode!r})"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def path(self) -> Path:
        """Return the server's folder."""
        return self._folder.path

    @property
    @abstractmethod
    def version(self) -> str:
        """Return the release of the server programs."""

    def start(self) -> Self:
        """Start the server, or adopt the one that runs on this folder, and wait until it answers.

        Raises:
            EmbeddedServerError: it cannot be started; the message carries the server's reason.
        """
        if self._endpoint is not None and self._user == os.getpid() and self.is_running():
            return self
        deadline = Deadline(self._options.start_timeout)
        try:
            self._folder.create()
            with self._folder.locked(deadline):
                self._leave()
                self._start_or_adopt(deadline)
        except OSError as error:
            raise EmbeddedServerError(
                f"the embedded {self.kind} in {self.path} cannot be started: {error}",
                path=self.path,
            ) from error
        self._user = os.getpid()
        atexit.register(self._at_exit)
        return self

    def stop(self) -> None:
        """Leave the server: an owned one stops with the last who leaves. May be called twice.

        In a process forked from the one that started it, the server is not this process's to
        stop and stays.
        """
        atexit.unregister(self._at_exit)
        endpoint, self._endpoint = self._endpoint, None
        if endpoint is None:
            return
        if not self.path.exists():
            self._stopped(endpoint)  # somebody removed the folder: nobody can use the server
            return
        with self._folder.locked(Deadline(self._options.stop_timeout)):
            if self._membership.owned() and self._membership.is_last():
                self._stopped(self._running() or endpoint)
            else:
                self._leave()

    def shutdown(self) -> None:
        """Stop the server now, whoever else uses it and in whichever mode it runs."""
        atexit.unregister(self._at_exit)
        self._endpoint = None
        if not self.path.exists():
            return
        with self._folder.locked(Deadline(self._options.stop_timeout)):
            self._stopped(self._running())

    def is_running(self) -> bool:
        """Return whether a server runs on this folder, no matter who started it."""
        return self._running() is not None

    @abstractmethod
    def _running(self) -> Endpoint | None:
        """Return the live server on this folder."""

    @abstractmethod
    def _prepare(self, run_as: RunAs, life: int) -> None:
        """Make what the server needs on disk; programs run for it are to hold ``life`` too."""

    @abstractmethod
    def _launch(self, launch: Launch) -> subprocess.Popen[bytes]:
        """Start the process; the caller waits for it."""

    @abstractmethod
    def _refusal(self, endpoint: Endpoint) -> str | None:
        """Return why the server does not serve requests yet, or None when it does."""

    @abstractmethod
    def _reason(self, log: str) -> str | None:
        """Return the line of the log that says why the server ended."""

    @abstractmethod
    def _refuse_adopted(self, endpoint: Endpoint) -> None:
        """Raise when a running server promises less than this handle was asked for."""

    def _mark(self) -> str:
        """Return an argument that only this folder's server has on its command line."""
        return str(self._folder.data)

    def _started(self) -> Endpoint:
        if self._endpoint is None:
            raise EmbeddedServerError(
                f"the embedded {self.kind} in {self.path} is not started", path=self.path
            )
        return self._endpoint

    def _start_or_adopt(self, deadline: Deadline) -> None:
        if not deadline.wait(lambda: self._settle(deadline)):
            raise EmbeddedServerError(
                f"{self.path} is still used by processes of an earlier {self.kind} server, or by "
                "a server in another container",
                path=self.path,
            )

    def _settle(self, deadline: Deadline) -> bool:
        """Adopt a live server or start one; False while there is neither a live one nor none."""
        running = self._running()
        if running is not None:
            return self._adopt(running, deadline)
        self._life = self._folder.hold_life()
        if self._life is None:
            return False
        try:
            self._start_new(self._life, deadline)
        finally:
            self._close_life()
        return True

    def _adopt(self, running: Endpoint, deadline: Deadline) -> bool:
        """Use a server that runs already; False means that it has gone in the meantime."""
        self._refuse_other_port(running)
        if self._options.mode == "owned":
            joined = self._membership.join(running.pid, self._mark())
        else:
            joined = self._membership.release()
        if not joined:
            self._stopped(running)
            return False
        try:
            serves = self._await_adopted(running, deadline)
        except BaseException:
            self._leave()
            raise
        if serves:
            self._endpoint = running
        else:
            self._leave()
        return serves

    def _await_adopted(self, running: Endpoint, deadline: Deadline) -> bool:
        refusal = self._wait(running, deadline)
        if not self._alive(running):
            return False
        if refusal is not None:
            raise self._failure(self._too_slow(refusal))
        self._refuse_adopted(running)
        return True

    def _start_new(self, life: int, deadline: Deadline) -> None:
        run_as = choose_run_as(self._options.run_as, self._folder.data, self.path)
        self._refuse_unreachable(run_as)
        self._prepare(run_as, life)
        if self._options.mode == "owned":
            self._membership.announce()
        else:
            self._membership.release()
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            try:
                self._start_once(run_as, life, deadline)
            except PortTakenError as taken:
                if self._options.port or attempt == _PORT_ATTEMPTS:
                    raise EmbeddedServerError(str(taken), port=taken.port) from None
            else:
                return

    def _start_once(self, run_as: RunAs, life: int, deadline: Deadline) -> None:
        port = (self._options.port or free_port()) if self._tcp else None
        sockets = make_socket_folder(self.path, run_as)
        log = self._log.open()
        try:
            process = self._launch(Launch(run_as, sockets, port, log, life))
        finally:
            os.close(log)
        self._process = process
        endpoint = Endpoint(process.pid, sockets, port)
        try:
            self._await_started(endpoint, deadline)
        except BaseException:
            self._stopped(endpoint)
            raise
        self._endpoint = endpoint

    def _spawn(
        self, command: list[str], launch: Launch, *, config: str | None = None
    ) -> subprocess.Popen[bytes]:
        return spawn(
            command,
            mark=self._mark(),
            log=launch.log,
            life=launch.life,
            run_as=launch.run_as,
            config=config,
        )

    def _await_started(self, endpoint: Endpoint, deadline: Deadline) -> None:
        if self._options.mode == "owned":
            self._membership.enter(endpoint.pid, self._mark())
        refusal = self._wait(endpoint, deadline)
        if refusal is None:
            return
        log = self._log.this_start()
        if endpoint.port is not None and PORT_TAKEN in log:
            raise PortTakenError(self.kind, endpoint.port)
        if self._alive(endpoint):
            raise self._failure(self._too_slow(refusal))
        raise self._failure(self._reason(log) or last_line(log) or refusal)

    def _wait(self, endpoint: Endpoint, deadline: Deadline) -> str | None:
        """Wait until the server serves (None), or has ended or run out of time (why not)."""
        deadline.wait(lambda: not self._alive(endpoint) or self._refusal(endpoint) is None)
        return self._refusal(endpoint)

    def _too_slow(self, refusal: str) -> str:
        return f"no answer within {self._options.start_timeout:g} s ({refusal})"

    def _failure(self, reason: str) -> EmbeddedServerError:
        return EmbeddedServerError(
            f"the embedded {self.kind} in {self.path} did not start: {reason}",
            path=self.path,
            log=self._log.path,
        )

    def _refuse_other_port(self, running: Endpoint) -> None:
        wanted = self._options.port
        if self._tcp and running.port is None:
            runs = "without a TCP port"
        elif wanted and running.port != wanted:
            runs = f"on port {running.port}, not {wanted}"
        else:
            return
        raise EmbeddedServerError(
            f"the {self.kind} in {self.path} already runs {runs}: stop it first", path=self.path
        )

    def _refuse_unreachable(self, run_as: RunAs) -> None:
        part = run_as.unreachable_part(self.path)
        if part is not None:
            raise EmbeddedServerError(
                f"the {self.kind} server runs as {run_as.name}, who may not enter {part}: choose "
                "a folder outside of it (for root e.g. below /var/lib), or name an account that "
                "may with run_as",
                path=self.path,
                run_as=run_as.name,
            )

    def _alive(self, endpoint: Endpoint) -> bool:
        return is_server(endpoint.pid, self._mark())

    def _stopped(self, endpoint: Endpoint | None) -> None:
        """Stop the server, then give up what there was to hold."""
        if endpoint is not None:
            terminate(endpoint.pid, self._mark(), seconds=self._options.stop_timeout)
            remove_socket_folder(endpoint.sockets)
        self._membership.disband()
        reap(self._process)
        self._process = None

    def _leave(self) -> None:
        """Give up the share in a server that others may go on using."""
        self._membership.leave()
        disown(self._process)
        self._process = None

    def _close_life(self) -> None:
        life, self._life = self._life, None
        if life is not None:
            os.close(life)

    def _at_exit(self) -> None:
        if self._user == os.getpid():
            with suppress(EmbeddedServerError, OSError):
                self.stop()

    def _forget_parent(self) -> None:
        """Keep the address, drop the share: in a forked child the server is its parent's."""
        self._close_life()
        self._membership.leave(explicitly=False)
        disown(self._process)
        self._process = None


_servers: weakref.WeakSet[EmbeddedServer] = weakref.WeakSet()


def _forget_parents_servers() -> None:
    for server in list(_servers):
        server._forget_parent()  # noqa: SLF001 - the hook is part of the class, at module level


os.register_at_fork(after_in_child=_forget_parents_servers)
