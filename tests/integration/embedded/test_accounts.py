"""Whose processes and files they are: never root's."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rootstream_db.embedded import EmbeddedPostgres, EmbeddedRedis, all_postgres, reach
from rootstream_db.errors import EmbeddedServerError
from tests.fixtures.embedded_user import Server

Make = Callable[..., Server]


@pytest.fixture
def hidden(root: None, folder: Path) -> Path:
    """A folder of root's that nobody else may enter."""
    path = folder / "hidden"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def program_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of copied programs of the test's own."""
    path = folder / "cache"
    monkeypatch.setattr(reach, "CACHE", path)
    return path


def test_root_starts_servers_as_somebody_else_and_leaves_no_root_file_in_their_data(
    root: None, make: Make
) -> None:
    with make() as server:
        endpoint: Any = server._running()
        status = Path(f"/proc/{endpoint.pid}/status").read_text()
        uids = ids_in(status, "Uid")
        assert 0 not in uids
        assert 0 not in ids_in(status, "Gid")
        assert [] == ids_in(status, "Groups")
        for file in (server._folder.data, *server._folder.data.rglob("*")):
            assert file.lstat().st_uid in uids, file
            assert file.lstat().st_gid != 0, file


def ids_in(status: str, name: str) -> list[int]:
    (line,) = [line for line in status.splitlines() if line.startswith(f"{name}:")]
    return [int(number) for number in line.split()[1:]]


def test_root_may_name_the_account(root: None, folder: Path) -> None:
    with EmbeddedRedis(folder / "server", run_as="nobody") as server:
        assert pwd.getpwnam("nobody").pw_uid == server._folder.data.stat().st_uid


def test_the_owner_of_the_data_goes_on_running_the_server(root: None, folder: Path) -> None:
    """Whoever root is told to prefer by then, files change their owner only by hand."""
    with EmbeddedRedis(folder / "server", run_as="nobody"):
        pass
    with EmbeddedRedis(folder / "server") as server:
        endpoint: Any = server._running()
        status = Path(f"/proc/{endpoint.pid}/status").read_text()
        assert pwd.getpwnam("nobody").pw_uid in ids_in(status, "Uid")


def test_what_root_starts_in_somebodys_folder_stays_theirs(root: None, folder: Path) -> None:
    theirs = folder / "theirs"
    theirs.mkdir()
    nobody = pwd.getpwnam("nobody")
    os.chown(theirs, nobody.pw_uid, nobody.pw_gid)
    with EmbeddedRedis(theirs, tcp=True):
        owners = {file: file.lstat().st_uid for file in theirs.rglob("*")}
    assert owners == dict.fromkeys(owners, nobody.pw_uid)


@pytest.mark.parametrize("name", ["root", "no-such-account"])
def test_accounts_that_will_not_do_are_refused(root: None, folder: Path, name: str) -> None:
    with pytest.raises(EmbeddedServerError, match="run_as"):
        EmbeddedRedis(folder / "server", run_as=name).start()


def test_data_below_a_folder_the_account_may_not_enter_is_refused_with_a_way_out(
    make: Make, hidden: Path, kind: type[Server]
) -> None:
    with pytest.raises(EmbeddedServerError) as refusal:
        kind(hidden / "deeper" / "server").start()
    assert f"may not enter {hidden}:" in str(refusal.value)
    assert "run_as" in str(refusal.value)
    assert 0o700 == stat.S_IMODE(hidden.stat().st_mode)


def test_a_new_private_folder_of_roots_is_opened_for_walking_through(
    root: None, folder: Path, kind: type[Server]
) -> None:
    """Such as the ones mkdtemp makes; reading what is in it stays root's."""
    private = folder / "private"
    private.mkdir(mode=0o700)
    with kind(private):
        assert 0o711 == stat.S_IMODE(private.stat().st_mode)


def test_a_private_folder_with_other_things_in_it_stays_closed(
    hidden: Path, kind: type[Server]
) -> None:
    (hidden / "diary").touch()
    with pytest.raises(EmbeddedServerError, match="may not enter"):
        kind(hidden).start()
    assert 0o700 == stat.S_IMODE(hidden.stat().st_mode)


def test_programs_the_account_cannot_reach_are_copied_once(
    hidden: Path, folder: Path, program_cache: Path
) -> None:
    original = all_postgres()[0].bindir
    package = original.parent.parent
    subprocess.run(["cp", "-a", str(package), str(hidden)], check=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        subprocess.run(["cp", "-a", str(libraries), str(hidden)], check=True)
    bindir = hidden / package.name / original.parent.name / "bin"
    for name in ("one", "two"):
        with EmbeddedPostgres(folder / name, bindir=bindir, durable=False) as server:
            assert server.bindir.is_relative_to(program_cache)
            dump = [str(server.binaries.tool("pg_dump")), "--schema-only", server.url()]
            subprocess.run(dump, check=True, capture_output=True)
    assert 1 == len(list(program_cache.iterdir()))
    assert 0o700 == stat.S_IMODE(hidden.stat().st_mode)
    assert all(not file.stat().st_mode & 0o022 for file in program_cache.rglob("*"))


def test_a_redis_program_the_account_cannot_reach_is_copied(
    hidden: Path, folder: Path, program_cache: Path
) -> None:
    program = Path(shutil.copy2(EmbeddedRedis(folder).binary.server, hidden))
    with EmbeddedRedis(folder / "server", server=program) as server:
        assert server.binary.server.is_relative_to(program_cache)


def test_copies_go_into_the_servers_folder_where_the_cache_cannot_be_written(
    hidden: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "file").touch()
    monkeypatch.setattr(reach, "CACHE", folder / "file" / "cache")
    program = Path(shutil.copy2(EmbeddedRedis(folder).binary.server, hidden))
    with EmbeddedRedis(folder / "server", server=program) as server:
        assert server.binary.server.is_relative_to(server.path / "programs")


def test_a_user_id_without_a_name_is_told_what_initdb_wants(root: None, folder: Path) -> None:
    """As in containers that run under any number; Redis does not mind."""
    for name in ("postgres", "redis"):
        (folder / name).mkdir()
        os.chown(folder / name, 54321, 54321)
    with pytest.raises(EmbeddedServerError, match="54321 has no entry in /etc/passwd"):
        EmbeddedPostgres(folder / "postgres").start()
    with EmbeddedRedis(folder / "redis") as server:
        assert 54321 == server._folder.data.stat().st_uid


def test_an_unprivileged_user_needs_nothing_special(
    run_as_nobody: Callable[[str], str], folder: Path
) -> None:
    folder.chmod(0o777)
    program = f"""
import psycopg
from rootstream_db.embedded import start_servers
from rootstream_db.settings import EmbeddedSettings

def visit(statement):
    with start_servers({str(folder / "servers")!r}, EmbeddedSettings(), database="mine") as both:
        with psycopg.connect(both.database_url, autocommit=True) as connection:
            return connection.execute(statement)

visit("CREATE TABLE kept ()")
visit("SELECT FROM kept")
print("found again")
"""
    assert "found again\n" == run_as_nobody(program)


def test_only_root_can_start_a_server_as_somebody_else(
    run_as_nobody: Callable[[str], str], folder: Path
) -> None:
    program = f"""
from rootstream_db.embedded import EmbeddedRedis
from rootstream_db.errors import EmbeddedServerError
try:
    EmbeddedRedis({str(folder)!r}, run_as="daemon").start()
except EmbeddedServerError as error:
    print(error)
"""
    folder.chmod(0o777)
    assert "only root can start a server as daemon" in run_as_nobody(program)


def test_naming_the_own_account_is_allowed(folder: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root's own account is refused")
    with EmbeddedRedis(folder, run_as=getpass.getuser()) as server:
        assert server.is_running()


@pytest.fixture(autouse=True)
def _group_of_root(root_group: None) -> None:
    """Run every test with root's supplementary group, which servers must not inherit."""


@pytest.fixture
def root_group() -> Iterator[None]:
    """Give this process root's supplementary group for a while."""
    if os.geteuid() != 0:
        yield
        return
    before = os.getgroups()
    os.setgroups([0])
    yield
    os.setgroups(before)
