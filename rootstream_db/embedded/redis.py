"""A real Redis-protocol server in a folder."""

from __future__ import annotations

import json
import os
import re
import socket
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote

from rootstream_db.embedded.binaries import RedisBinary, find_redis
from rootstream_db.embedded.process import is_server, spawn
from rootstream_db.embedded.server import EmbeddedServer, Endpoint, Mode, last_line

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping

    from rootstream_db.embedded.run_as import RunAs

_SOCKET = "redis.sock"
_ENDPOINT = "endpoint.json"
_REASON = re.compile(r"(?<= # ).*")
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
    ) -> None:
        super().__init__(path, port=port, tcp=tcp, mode=mode, run_as=run_as)
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
        if self._tcp:
            return f"redis://:{quote(self._folder.secret(), safe='')}@127.0.0.1:{endpoint.port}/0"
        login = "" if endpoint.port is None else f":{quote(self._folder.secret(), safe='')}@"
        return f"unix://{login}{quote(str(endpoint.socket_folder / _SOCKET))}?db=0"

    def _running(self) -> Endpoint | None:
        try:
            pid = int((self._folder.data / "redis.pid").read_text("ascii"))
            where = json.loads((self.path / _ENDPOINT).read_text("utf-8"))
        except (OSError, ValueError):
            return None
        if not is_server(pid, self._mark()):
            return None
        return Endpoint(pid, Path(where["socket_folder"]), where["port"])

    def _prepare(self, run_as: RunAs) -> None:
        if not self._folder.data.exists():
            self._folder.data.mkdir(mode=0o700)
            run_as.own(self._folder.data)
            self._folder.write_marker(version=self.version, source=self.binary.source)

    def _launch(self, run_as: RunAs, port: int | None) -> subprocess.Popen[bytes]:
        sockets = self._folder.socket_folder(run_as)
        self._write_endpoint(sockets, port)
        # The folder is an argument so that the process can be recognised; the rest, which may
        # hold the password, goes in through standard input.
        command = [str(self.binary.server), "-", "--dir", str(self._folder.data)]
        log = self._folder.open_private(self._folder.log.name, os.O_WRONLY | os.O_APPEND)
        try:
            return spawn(command, log=log, run_as=run_as, config=self._config(sockets, port))
        finally:
            os.close(log)

    def _config(self, sockets: Path, port: int | None) -> str:
        lines = {
            "bind": "127.0.0.1",
            "port": str(port or 0),
            "unixsocket": _quoted(str(sockets / _SOCKET)),
            "unixsocketperm": "700",
            "pidfile": _quoted(str(self._folder.data / "redis.pid")),
            "daemonize": "no",
            "set-proc-title": "no",
            "appendonly": "yes" if self._persist else "no",
            **({} if self._persist else {"save": '""'}),
            **({} if port is None else {"requirepass": self._folder.secret()}),
            **self._settings,
        }
        return "".join(f"{name} {value}\n" for name, value in lines.items())

    def _write_endpoint(self, sockets: Path, port: int | None) -> None:
        descriptor = self._folder.open_private(_ENDPOINT)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({"socket_folder": str(sockets), "port": port}, file)

    def _answers(self, endpoint: Endpoint) -> bool:
        login = "" if endpoint.port is None else f"AUTH {self._folder.secret()}\r\n"
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_CONNECT_SECONDS)
                connection.connect(str(endpoint.socket_folder / _SOCKET))
                connection.sendall(f"{login}PING\r\nQUIT\r\n".encode())
                with connection.makefile("rb") as replies:
                    return b"+PONG" in replies.read()
        except OSError:
            return False

    def _reason(self, log: str) -> str | None:
        return last_line(log, _REASON, without="WARNING")


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
