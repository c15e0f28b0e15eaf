"""A real Redis-protocol server in a folder."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from rootstream_db.embedded.binaries import RedisBinary, find_redis
from rootstream_db.embedded.endpoint import Endpoint, Launch, Mode, Options
from rootstream_db.embedded.log import last_words
from rootstream_db.embedded.process import is_server
from rootstream_db.embedded.reach import reachable
from rootstream_db.embedded.run_as import RunAs
from rootstream_db.embedded.server import EmbeddedServer
from rootstream_db.errors import EmbeddedServerError

_SOCKET = "redis.sock"
_ENDPOINT = "endpoint.json"
_REASON = re.compile(r"(?<= # )(?!WARNING).*")
_NOT_A_REASON = "bye bye"
_CONNECT_SECONDS = 2.0


class EmbeddedRedis(EmbeddedServer):
    """A real Redis-protocol server (Valkey or Redis) in a folder.

    Args:
        path: the server's own folder; made when missing, found again by the next start.
        port: the TCP port on 127.0.0.1; giving one implies ``tcp``.
        tcp: listen on 127.0.0.1 too, with a random password kept in ``<path>/secret``.
        persist: keep an append-only file, so that the data survives a restart.
        settings: more lines of the server's configuration, e.g. ``{"maxmemory": "64mb"}``.
        mode: ``owned`` lives as long as somebody uses it, ``shared`` until ``shutdown()``.
        run_as: the unprivileged account to use when the caller is root.
        server: the server program, when not to be found automatically.
        start_timeout: seconds to wait until it serves; loading the data counts.
        stop_timeout: seconds to wait for an orderly end before it is made to end.
    """

    kind: ClassVar[str] = "Redis"

    def __init__(
        self,
        path: Path | str,
        *,
        port: int | None = None,
        tcp: bool = False,
        persist: bool = True,
        settings: Mapping[str, str] | None = None,
        mode: Mode = "owned",
        run_as: str | None = None,
        server: Path | str | None = None,
        start_timeout: float = 60.0,
        stop_timeout: float = 60.0,
    ) -> None:
        super().__init__(path, Options(port, tcp, mode, run_as, start_timeout, stop_timeout))
        self._persist = persist
        self._settings = dict(settings or {})
        self._server = server

    @cached_property
    def binary(self) -> RedisBinary:
        """Return the program in use."""
        return find_redis(self._server)

    @property
    def version(self) -> str:
        """Return the release of the program in use, e.g. ``9.1.2``."""
        return self.binary.version

    @property
    def url(self) -> str:
        """Return the server's address for redis-py.

        Raises:
            EmbeddedServerError: the server is not started.
        """
        endpoint = self._started()
        login = "" if endpoint.port is None else f":{quote(self._folder.secret(), safe='')}@"
        if self._tcp:
            return f"redis://{login}127.0.0.1:{endpoint.port}/0"
        return f"unix://{login}{quote(str(endpoint.sockets / _SOCKET))}?db=0"

    def _running(self) -> Endpoint | None:
        where = self._folder.read_facts(_ENDPOINT)
        for pid in (where.get("pid"), self._pid_in_file()):
            if where and pid is not None and is_server(pid, self._mark()):
                return Endpoint(pid, Path(where["sockets"]), where["port"])
        return None

    def _pid_in_file(self) -> int | None:
        """Return what the server wrote itself: it counts when its starter died before it could."""
        try:
            return int(self._pid_file.read_text("ascii"))
        except (OSError, ValueError):
            return None

    @property
    def _pid_file(self) -> Path:
        return self._folder.data / "redis.pid"

    def _prepare(self, run_as: RunAs, life: int) -> None:
        program = reachable(
            self.binary.server,
            run_as,
            tree=[self.binary.server],
            fallback=self.path / "programs",
        )
        self.binary = replace(self.binary, server=program)
        if not self._folder.data.exists():
            self._folder.data.mkdir(mode=0o700)
            run_as.own(self._folder.data)
            self._folder.write_marker(version=self.version, source=self.binary.source)

    def _launch(self, launch: Launch) -> subprocess.Popen[bytes]:
        # The folder is an argument so that the process can be recognised; the rest, which may
        # hold the password, goes in through standard input.
        command = [str(self.binary.server), "-", "--dir", str(self._folder.data)]
        config = self._config(launch.sockets, launch.port)
        self._write_endpoint(launch, pid=None)
        process = self._spawn(command, launch, config=config)
        self._write_endpoint(launch, pid=process.pid)
        return process

    def _config(self, sockets: Path, port: int | None) -> str:
        lines = {
            "bind": "127.0.0.1",
            "port": str(port or 0),
            "unixsocket": _quoted(str(sockets / _SOCKET)),
            "unixsocketperm": "700",
            "pidfile": _quoted(str(self._pid_file)),
            "daemonize": "no",
            "set-proc-title": "no",
            "appendonly": "yes" if self._persist else "no",
            # The append-only file is all the persistence there is: a snapshot at the end would
            # only keep a server on a full disk from ending.
            "save": '""',
            **({} if port is None else {"requirepass": self._folder.secret()}),
            **self._settings,
        }
        return "".join(f"{name} {value}\n" for name, value in lines.items())

    def _write_endpoint(self, launch: Launch, *, pid: int | None) -> None:
        where = {"pid": pid, "sockets": str(launch.sockets), "port": launch.port}
        self._folder.write_facts(_ENDPOINT, where)

    def _refusal(self, endpoint: Endpoint) -> str | None:
        replies = self._ask(endpoint, "PING")
        return None if "+PONG" in replies else " ".join(replies.split())

    def _refuse_adopted(self, endpoint: Endpoint) -> None:
        if self._persist and "yes" not in self._ask(endpoint, "CONFIG GET appendonly").split():
            raise EmbeddedServerError(
                f"the Redis in {self.path} already runs, but without persistence: stop it first",
                path=self.path,
            )

    def _ask(self, endpoint: Endpoint, command: str) -> str:
        """Return what the server replies, or why it cannot be asked."""
        login = "" if endpoint.port is None else f"AUTH {self._folder.secret()}\r\n"
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_CONNECT_SECONDS)
                connection.connect(str(endpoint.sockets / _SOCKET))
                connection.sendall(f"{login}{command}\r\nQUIT\r\n".encode())
                with connection.makefile("rb") as replies:
                    return replies.read().decode("utf-8", "replace")
        except OSError as error:
            return str(error)

    def _reason(self, log: str) -> str | None:
        return last_words(log, _REASON, without=_NOT_A_REASON)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
