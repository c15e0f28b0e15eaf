"""Where a server is reached: a socket whatever its folder is called, a port with a password."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from rootstream_db.embedded import EmbeddedPostgres, EmbeddedRedis, endpoint
from rootstream_db.embedded import server as server_module
from rootstream_db.errors import EmbeddedServerError
from tests.fixtures.embedded_user import Server

Make = Callable[..., Server]
AWKWARD = "with spaces, 'single' \"double\" ünïcode $HOME %s; back\\slash"


@pytest.fixture
def temporary(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of the test's own, with the rights of /tmp."""
    path = folder / "tmp"
    path.mkdir()
    path.chmod(0o1777)
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port of 127.0.0.1 that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def url_of(running: Server) -> str:
    return running.url() if isinstance(running, EmbeddedPostgres) else running.url


def ping(url: str) -> bool:
    """Return whether the server of a URL serves, whichever it is."""
    if url.startswith("postgresql:"):
        with psycopg.connect(url) as connection:
            return connection.execute("SELECT true").fetchone() == (True,)
    with closing(redis.Redis.from_url(url)) as client:
        return bool(client.ping())


@pytest.mark.parametrize("name", [AWKWARD, "x" * 250], ids=["awkward", "long"])
def test_any_path_will_do(kind: type[Server], folder: Path, name: str) -> None:
    with kind(folder / name / "deeper") as running:
        assert ping(url_of(running))


def test_the_socket_is_closed_to_other_accounts(make: Make, temporary: Path) -> None:
    with make() as running:
        (sockets,) = temporary.glob("rsdb-*")
        assert 0o700 == stat.S_IMODE(sockets.stat().st_mode)
        assert running._folder.data.stat().st_uid == sockets.stat().st_uid
        assert str(sockets) in url_of(running)
    assert [] == list(temporary.glob("rsdb-*"))


def test_a_temporary_folder_with_too_long_a_path_is_not_used(
    make: Make, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = folder / ("t" * 90)
    long.mkdir()
    long.chmod(0o1777)
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with make() as running:
        assert ping(url_of(running))
        assert [] == list(long.iterdir())


def test_socket_folders_of_removed_servers_are_cleared_away(folder: Path, temporary: Path) -> None:
    def abandoned(name: str, owner: Path) -> Path:
        path = temporary / f"rsdb-{name}"
        path.mkdir(mode=0o700)
        (path / "owner").write_bytes(os.fsencode(owner))
        return path

    gone = abandoned("gone", folder / "no longer there")
    young = abandoned("young", folder / "no longer there")
    there = abandoned("there", folder)
    alive = abandoned("alive", folder / "no longer there")
    strange = temporary / "rsdb-strange"
    strange.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(alive / "socket"))
        listener.listen()
        for old in (gone, there, alive, strange):
            os.utime(old, (0, 0))
        with EmbeddedRedis(folder / "server"):
            pass
        assert {young, there, alive, strange} == set(temporary.iterdir())
    assert not gone.exists()


def test_a_link_in_the_place_of_the_socket_folder_is_not_followed(
    make: Make, folder: Path, temporary: Path
) -> None:
    victim = folder / "victim"
    victim.mkdir(mode=0o755)
    (victim / "redis.sock").touch()
    with make() as running:
        name = running._started().sockets.name
    (temporary / name).symlink_to(victim)
    with pytest.raises(EmbeddedServerError, match=f"{name} cannot be used"):
        make().start()
    assert 0o755 == stat.S_IMODE(victim.stat().st_mode)
    assert (victim / "redis.sock").exists()


def test_a_port_needs_the_random_password(make: Make) -> None:
    with make(tcp=True) as running:
        url = url_of(running)
        assert "@127.0.0.1:" in url
        assert ping(url)
        password = (running.path / "secret").read_text().strip()
        assert len(password) >= 32
        with pytest.raises((psycopg.OperationalError, redis.AuthenticationError)):
            ping(url.replace(password, "wrong"))
        with pytest.raises((psycopg.OperationalError, redis.AuthenticationError)):
            ping(url.replace(f":{password}@", "@"))


def test_the_password_is_nowhere_but_in_its_file(make: Make) -> None:
    with make(tcp=True) as running:
        secret = running.path / "secret"
        assert 0o600 == stat.S_IMODE(secret.stat().st_mode)
        password = secret.read_text().strip()
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            assert password.encode() not in read(file), file
        there = running._running()
        assert there is not None
        assert password.encode() not in read(Path(f"/proc/{there.pid}/environ"))
        assert password not in repr(running)
        for file in running.path.iterdir():
            if file.is_file() and file != secret:
                assert password.encode() not in file.read_bytes(), file


def read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


def test_the_socket_serves_beside_the_port(make: Make) -> None:
    with make(tcp=True) as by_port, make() as by_socket:
        assert by_port._running() == by_socket._running()
        assert "127.0.0.1" not in url_of(by_socket)
        assert ping(url_of(by_socket))


def test_a_port_that_is_taken_is_named(make: Make, taken_port: int) -> None:
    with pytest.raises(EmbeddedServerError) as refusal:
        make(port=taken_port).start()
    assert f"port {taken_port} of 127.0.0.1 is taken" in str(refusal.value)
    assert {"port": taken_port} == refusal.value.context
    assert not make().is_running()


def test_a_port_chosen_for_us_is_chosen_again_when_somebody_was_faster(
    make: Make, taken_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices = [taken_port, endpoint.free_port()]
    monkeypatch.setattr(server_module, "free_port", lambda: choices.pop(0))
    with make(tcp=True) as running:
        assert ping(url_of(running))
        assert [] == choices


def test_a_wanted_port_is_used_and_implies_tcp(make: Make) -> None:
    port = endpoint.free_port()
    with make(port=port) as running:
        assert f"127.0.0.1:{port}/" in url_of(running)
        assert ping(url_of(running))


def test_a_running_server_without_a_port_is_not_adopted_for_one(make: Make) -> None:
    with make() as running:
        with pytest.raises(EmbeddedServerError, match="already runs without a TCP port"):
            make(tcp=True).start()
        assert running.is_running()


def test_a_running_server_on_another_port_is_not_adopted(make: Make) -> None:
    with make(tcp=True) as running:
        there: Any = running._running()
        with pytest.raises(EmbeddedServerError, match=f"already runs on port {there.port}, not"):
            make(port=endpoint.free_port()).start()
