"""A real PostgreSQL in a folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote

import psycopg
from psycopg import sql

from rootstream_db.embedded.binaries import PostgresBinaries, find_postgres
from rootstream_db.embedded.process import is_server, spawn
from rootstream_db.embedded.server import EmbeddedServer, Endpoint, Mode, last_line
from rootstream_db.errors import EmbeddedServerError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rootstream_db.embedded.run_as import RunAs

_SOCKET_PORT = 5432
_REASON = re.compile(r"(?:FATAL|PANIC|ERROR|error): .*")
_NOT_A_REASON = "the database system is"
_BUILTIN_LOCALES = 17
_CONNECT_SECONDS = 2
_PID_LINES = 6

_DEFAULTS = {"max_connections": "200", "shared_buffers": "128MB", "lc_messages": "C"}
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class EmbeddedPostgres(EmbeddedServer):
    """A real PostgreSQL server in a folder, started from wheels or from the system's programs.

    Args:
        path: the server's own folder; made when missing, found again by the next start.
        port: the TCP port on 127.0.0.1; giving one implies ``tcp``.
        tcp: listen on 127.0.0.1 too, with a random password kept in ``<path>/secret``.
        durable: False trades safety for speed, for data that may be lost.
        settings: more server settings, e.g. ``{"wal_level": "logical"}``.
        mode: ``owned`` lives as long as somebody uses it, ``shared`` until ``shutdown()``.
        run_as: the unprivileged account to use when the caller is root.
        bindir: the folder of the server programs, when not to be found automatically.
    """

    kind: ClassVar[str] = "PostgreSQL"

    def __init__(
        self,
        path: Path | str,
        *,
        port: int | None = None,
        tcp: bool = False,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
        mode: Mode = "owned",
        run_as: str | None = None,
        bindir: Path | str | None = None,
    ) -> None:
        super().__init__(path, port=port, tcp=tcp, mode=mode, run_as=run_as)
        self._durable = durable
        self._settings = dict(settings or {})
        self._bindir = bindir

    @cached_property
    def binaries(self) -> PostgresBinaries:
        """Return the programs in use."""
        return find_postgres(self._bindir)

    @property
    def bindir(self) -> Path:
        """Return the folder of the programs in use."""
        return self.binaries.bindir

    @property
    def version(self) -> str:
        """Return the release of the programs in use, e.g. ``18.6``."""
        return self.binaries.version

    def url(self, database: str = "postgres") -> str:
        """Return the address of a database, for SQLAlchemy and libpq alike.

        Raises:
            EmbeddedServerError: the server is not started.
        """
        endpoint = self._started()
        name = quote(database, safe="")
        if self._tcp:
            password = quote(self._folder.secret(), safe="")
            return f"postgresql://postgres:{password}@127.0.0.1:{endpoint.port}/{name}"
        host = quote(str(endpoint.socket_folder), safe="/")
        return f"postgresql://postgres@/{name}?host={host}&port={endpoint.port or _SOCKET_PORT}"

    def create_database(self, name: str) -> str:
        """Make a database unless it is there, and return its address."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
            if found.fetchone() is None:
                with suppress(psycopg.errors.DuplicateDatabase):
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    def _running(self) -> Endpoint | None:
        try:
            lines = (self._folder.data / "postmaster.pid").read_text("utf-8").splitlines()
        except OSError:
            return None
        if len(lines) < _PID_LINES or not is_server(int(lines[0]), self._mark()):
            return None
        return Endpoint(int(lines[0]), Path(lines[4]), int(lines[3]) if lines[5] else None)

    def _prepare(self, run_as: RunAs) -> None:
        data = self._folder.data
        if (data / "PG_VERSION").exists():
            self._refuse_other_major(data)
            return
        new = Path(tempfile.mkdtemp(prefix="data.init-", dir=self.path))
        run_as.own(new)
        self._initdb(new, run_as)
        new.rename(data)
        self._folder.write_marker(version=self.version, source=self.binaries.source)

    def _refuse_other_major(self, data: Path) -> None:
        major = (data / "PG_VERSION").read_text("ascii").strip()
        if major != str(self.binaries.major):
            msg = (
                f"{self.path} holds data of PostgreSQL {major}, but the programs in {self.bindir} "
                f"are {self.version}: pass the bindir of a PostgreSQL {major}, or dump and restore"
            )
            raise EmbeddedServerError(msg, path=self.path, found=major, programs=self.version)

    def _initdb(self, new: Path, run_as: RunAs) -> None:
        password = self.path / f".password-{os.getpid()}"
        descriptor = self._folder.open_private(password.name)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(self._folder.secret() + "\n")
            run_as.own(password)
            done = subprocess.run(
                self._initdb_command(new, password),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                **run_as.popen_options(),
            )
        finally:
            password.unlink()
        if done.returncode != 0:
            reason = last_line(done.stdout + done.stderr, _REASON) or f"exit code {done.returncode}"
            msg = f"the embedded PostgreSQL data in {self.path} could not be made: {reason}"
            raise EmbeddedServerError(msg, path=self.path)

    def _initdb_command(self, new: Path, password: Path) -> list[str]:
        if self.binaries.major >= _BUILTIN_LOCALES:
            locale = ["--no-locale", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        else:
            locale = ["--locale=C.UTF-8"]
        return [
            str(self.binaries.tool("initdb")),
            f"--pgdata={new}",
            "--username=postgres",
            "--encoding=UTF8",
            *locale,
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            f"--pwfile={password}",
            "--data-checksums",
            *([] if self._durable else ["--no-sync"]),
        ]

    def _launch(self, run_as: RunAs, port: int | None) -> subprocess.Popen[bytes]:
        sockets = str(self._folder.socket_folder(run_as)).replace('"', '""')
        settings = _DEFAULTS | ({} if self._durable else _NOT_DURABLE)
        if not _shared_memory_usable():
            settings["dynamic_shared_memory_type"] = "mmap"
        settings |= self._settings | {
            "listen_addresses": "" if port is None else "127.0.0.1",
            "port": str(port or _SOCKET_PORT),
            "unix_socket_directories": f'"{sockets}"',
        }
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(self.binaries.tool("postgres")), "-D", str(self._folder.data), *flags]
        log = self._folder.open_private(self._folder.log.name, os.O_WRONLY | os.O_APPEND)
        try:
            return spawn(command, log=log, run_as=run_as)
        finally:
            os.close(log)

    def _answers(self, endpoint: Endpoint) -> bool:
        try:
            psycopg.connect(
                host=str(endpoint.socket_folder),
                port=endpoint.port or _SOCKET_PORT,
                user="postgres",
                dbname="postgres",
                connect_timeout=_CONNECT_SECONDS,
            ).close()
        except psycopg.OperationalError:
            return False
        return True

    def _reason(self, log: str) -> str | None:
        return last_line(log, _REASON, without=_NOT_A_REASON)


def _shared_memory_usable() -> bool:
    return sys.platform != "linux" or os.access("/dev/shm", os.W_OK | os.X_OK)
