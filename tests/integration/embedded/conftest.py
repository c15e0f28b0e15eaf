"""Folders an unprivileged server can reach, other processes that use it, and a check for leaks."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from rootstream_db.embedded import EmbeddedPostgres, EmbeddedRedis
from rootstream_db.embedded.process import Deadline
from tests.fixtures.embedded_user import PATIENCE, Server, User
from tests.fixtures.servers import SCRATCH

ROOT: Final = Path(__file__).parents[3]
SITE_PACKAGES: Final = str(Path(psycopg.__file__).parents[1])
NOBODY: Final = pwd.getpwnam("nobody")
KINDS: Final[tuple[type[Server], ...]] = (EmbeddedPostgres, EmbeddedRedis)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Path]:
    """A folder with an empty PostgreSQL cluster, to be copied: initdb takes most of a second."""
    with tempfile.TemporaryDirectory(dir=SCRATCH) as path:
        with EmbeddedPostgres(path, durable=False):
            pass
        yield Path(path)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that any account may enter, unlike pytest's, and that no process may outlive."""
    path = Path(tempfile.mkdtemp(prefix="embedded-", dir=SCRATCH))
    path.chmod(0o755)
    yield path
    leaked = processes_with(str(path))
    shutil.rmtree(path)
    assert {} == leaked


@pytest.fixture
def copied(folder: Path, cluster: Path) -> Path:
    """A folder with an empty PostgreSQL cluster in it."""
    target = folder / "server"
    subprocess.run(["cp", "-a", f"{cluster}/.", target], check=True)
    return target


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> type[Server]:
    """Either kind of server."""
    found: type[Server] = request.param
    return found


@pytest.fixture
def make(kind: type[Server], folder: Path, request: pytest.FixtureRequest) -> Callable[..., Server]:
    """Makes a handle on the server of the test's folder."""
    options: dict[str, Any] = {}
    if kind is EmbeddedPostgres:
        request.getfixturevalue("copied")
        options["durable"] = False
    return lambda **more: kind(folder / "server", **options, **more)


@pytest.fixture
def user(make: Callable[..., Server], kind: type[Server]) -> Iterator[Callable[..., User]]:
    """Starts other processes with a handle on the server of the test's folder."""
    with ExitStack() as users:

        def started(**options: Any) -> User:
            if kind is EmbeddedPostgres:
                options["durable"] = False
            new = User(kind, str(make().path), options)
            users.callback(new.close)
            return new

        yield started
    make().shutdown()


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Waits for a condition, and fails when it does not come true."""

    def wait(condition: Callable[[], bool]) -> None:
        assert Deadline(PATIENCE).wait(condition)

    return wait


@pytest.fixture
def value() -> Callable[[str, str], Any]:
    """Returns the one value that a statement yields on the database of a URL."""

    def ask(url: str, statement: str) -> Any:
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None

    return ask


@pytest.fixture
def root() -> None:
    """Root's rights, or no test."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another account")


@pytest.fixture
def run_as_nobody(root: None) -> Callable[[str], str]:
    """Runs a Python program as the account nobody and returns what it prints."""
    python = python_for_nobody()
    if python is None:
        pytest.skip("the account nobody can run no Python that has the packages")
    return partial(as_nobody, python)


@cache
def python_for_nobody() -> str | None:
    """Return an interpreter that is not hidden from others, as one below /root is."""
    for python in (sys.executable, "/usr/bin/python3"):
        with suppress(AssertionError, OSError):
            as_nobody(python, "import psycopg, rootstream_db.errors")
            return python
    return None


def as_nobody(python: str, program: str) -> str:
    done = subprocess.run(
        [python, "-c", program],
        env={"PYTHONPATH": os.pathsep.join((str(ROOT), SITE_PACKAGES)), "PATH": os.defpath},
        cwd="/",
        user="nobody",
        group=NOBODY.pw_gid,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


def processes_with(text: str) -> dict[int, str]:
    """Return the processes that come to have ``text`` in their command line and do not end."""
    found: dict[int, str] = {}

    def gone() -> bool:
        found.clear()
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if text in line and str(os.getpid()) != file.parent.name:
                    found[int(file.parent.name)] = line
        return not found

    Deadline(5).wait(gone)
    return found
