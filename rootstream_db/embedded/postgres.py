"""A real PostgreSQL in a folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import psycopg
from psycopg import sql

from rootstream_db.embedded.binaries import PostgresBinaries, find_postgres
from rootstream_db.embedded.endpoint import Endpoint, Launch, Mode, Options
from rootstream_db.embedded.log import last_line, last_words
from rootstream_db.embedded.process import Deadline, is_server
from rootstream_db.embedded.reach import reachable
from rootstream_db.embedded.run_as import RunAs
from rootstream_db.embedded.server import EmbeddedServer
from rootstream_db.errors import EmbeddedServerError

_SOCKET_PORT = 5432
_REASON = re.compile(r"(?:FATAL|PANIC|ERROR|initdb: error): .*")
_NOT_A_REASON = "the database system is"
_BUILTIN_LOCALES = 17
_PATIENCE_SECONDS = 30
_POLL_SECONDS = 2
_PID_LINES = 8
_SMALL_SHARED_MEMORY = 16 * 1024 * 1024
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - only asked whether it can be used

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
        start_timeout: seconds to wait until it serves; recovery after a crash counts.
        stop_timeout: seconds to wait for an orderly end before it is made to end.
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
        start_timeout: float = 60.0,
        stop_timeout: float = 60.0,
    ) -> None:
        super().__init__(path, Options(port, tcp, mode, run_as, start_timeout, stop_timeout))
        self._durable = durable
        self._settings = dict(settings or {})
        self._bindir = bindir
        self._password_lost = False

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
        host = quote(str(endpoint.sockets), safe="/")
        return f"postgresql://postgres@/{name}?host={host}&port={endpoint.port or _SOCKET_PORT}"

    def create_database(self, name: str) -> str:
        """Make a database unless it is there, and return its address."""
        with _connect(self._started()) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
            if found.fetchone() is None:
                with suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    def _running(self) -> Endpoint | None:
        try:
            lines = os.fsdecode((self._folder.data / "postmaster.pid").read_bytes()).splitlines()
        except OSError:
            return None
        if len(lines) < _PID_LINES or not is_server(int(lines[0]), self._mark()):
            return None
        return Endpoint(int(lines[0]), Path(lines[4]), int(lines[3]) if lines[5] else None)

    def _prepare(self, run_as: RunAs, life: int) -> None:
        self._make_programs_reachable(run_as)
        for stale in self.path.glob("data.init-*"):
            shutil.rmtree(stale)
        data = self._folder.data
        if (data / "PG_VERSION").exists():
            self._refuse_other_major(data)
            self._password_lost = not self._folder.has_secret()
            _forget_reused_pid(data / "postmaster.pid")
            return
        self._refuse_nameless(run_as)
        new = Path(tempfile.mkdtemp(prefix="data.init-", dir=self.path))
        run_as.own(new)
        self._initdb(new, run_as, life)
        self._folder.write_marker(version=self.version, source=self.binaries.source)
        new.rename(data)

    def _make_programs_reachable(self, run_as: RunAs) -> None:
        bindir = self.bindir
        prefix, package = bindir.parent, bindir.parent.parent
        tree = (bindir, prefix / "share", prefix / "lib", package.with_name(f"{package.name}.libs"))
        program = reachable(
            self.binaries.tool("postgres"),
            run_as,
            tree=[part for part in tree if part.exists()],
            fallback=self.path / "programs",
        )
        self.binaries = replace(self.binaries, bindir=program.parent)

    def _refuse_other_major(self, data: Path) -> None:
        major = (data / "PG_VERSION").read_text("ascii").strip()
        if major != str(self.binaries.major):
            raise EmbeddedServerError(
                f"{self.path} holds data of PostgreSQL {major}, but the programs in {self.bindir} "
                f"are {self.version}: give the bindir of a PostgreSQL {major}, or dump and restore",
                path=self.path,
                found=major,
                programs=self.version,
            )

    def _refuse_nameless(self, run_as: RunAs) -> None:
        if not run_as.has_name:
            raise self._failure(
                f"user id {run_as.uid} has no entry in /etc/passwd, and initdb insists on one: add "
                "it (in a container, from the entry point)"
            )

    def _initdb(self, new: Path, run_as: RunAs, life: int) -> None:
        password = self.path / ".password"
        password.unlink(missing_ok=True)
        try:
            with os.fdopen(self._folder.open_private(password.name), "w") as file:
                file.write(self._folder.secret() + "\n")
            run_as.own(password)
            done = subprocess.run(
                self._initdb_command(new, password),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                pass_fds=(life,),  # the next start waits for it, should this process be killed
                **run_as.popen_options(),
            )
        finally:
            password.unlink(missing_ok=True)
        if done.returncode != 0:
            shutil.rmtree(new, ignore_errors=True)
            said = done.stdout + done.stderr
            raise self._failure(self._reason(said) or f"initdb failed: {last_line(said)}")

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

    def _launch(self, launch: Launch) -> subprocess.Popen[bytes]:
        sockets = str(launch.sockets).replace('"', '""')
        settings = _DEFAULTS | ({} if self._durable else _NOT_DURABLE)
        if not _shared_memory_usable():
            settings["dynamic_shared_memory_type"] = "mmap"
        settings |= self._settings | {
            "listen_addresses": "" if launch.port is None else "127.0.0.1",
            "port": str(launch.port or _SOCKET_PORT),
            "unix_socket_directories": f'"{sockets}"',
        }
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(self.binaries.tool("postgres")), "-D", str(self._folder.data), *flags]
        return self._spawn(command, launch)

    def _await_started(self, endpoint: Endpoint, deadline: Deadline) -> None:
        super()._await_started(endpoint, deadline)
        if self._password_lost:  # deleting the file is the way to ask for a new one
            with _connect(endpoint) as connection:
                password = self._folder.secret().encode("ascii")
                verifier = connection.pgconn.encrypt_password(password, b"postgres")
                statement = sql.SQL("ALTER ROLE postgres PASSWORD {}")
                connection.execute(statement.format(sql.Literal(verifier.decode("ascii"))))

    def _refusal(self, endpoint: Endpoint) -> str | None:
        try:
            _connect(endpoint, timeout=_POLL_SECONDS).close()
        except psycopg.OperationalError as error:
            return " ".join(str(error).split())
        return None

    def _refuse_adopted(self, endpoint: Endpoint) -> None:
        with _connect(endpoint) as connection:
            row = connection.execute("SHOW fsync").fetchone()
        if self._durable and row == ("off",):
            raise EmbeddedServerError(
                f"the PostgreSQL in {self.path} already runs, but not durably: stop it first",
                path=self.path,
            )

    def _reason(self, log: str) -> str | None:
        return last_words(log, _REASON, without=_NOT_A_REASON)


def _connect(
    endpoint: Endpoint, *, timeout: int = _PATIENCE_SECONDS
) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(
        host=str(endpoint.sockets),
        port=endpoint.port or _SOCKET_PORT,
        user="postgres",
        dbname="postgres",
        connect_timeout=timeout,
        autocommit=True,
    )


def _forget_reused_pid(file: Path) -> None:
    """Remove a crashed server's pid file when its number belongs to another program by now.

    PostgreSQL would take any live process of the same account for a server of its own. This
    happens after a restart of the machine, and all the time in containers.
    """
    try:
        pid = int(file.read_text("utf-8").splitlines()[0])
        command_line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError, IndexError):
        return
    if b"postgres" not in command_line:
        file.unlink()


def _shared_memory_usable() -> bool:
    if sys.platform != "linux":
        return True
    try:
        state = os.statvfs(_SHARED_MEMORY)
    except OSError:
        return False
    large_enough = state.f_frsize * state.f_blocks >= _SMALL_SHARED_MEMORY
    return large_enough and os.access(_SHARED_MEMORY, os.W_OK | os.X_OK)
