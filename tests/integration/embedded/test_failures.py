"""What cannot work says so in one line, and leaves nothing running."""

from __future__ import annotations

import fcntl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from rootstream_db.embedded import EmbeddedPostgres, EmbeddedRedis
from rootstream_db.errors import EmbeddedServerError
from tests.fixtures.embedded_user import Server

Make = Callable[..., Server]


def refusal_of(server: Server) -> str:
    """Return what a server says that does not start: one line, and no process left."""
    with pytest.raises(EmbeddedServerError) as refusal:
        server.start()
    message = str(refusal.value)
    assert 1 == len(message.splitlines())
    assert not server.is_running()
    return message


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture
def small_disk(root: None, folder: Path) -> Iterator[Callable[[int], Path]]:
    """Makes a disk of some megabytes."""
    disk = folder / "disk"
    disk.mkdir()

    def made(megabytes: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "none", str(disk)]
        if subprocess.run(command, check=False, capture_output=True).returncode != 0:
            pytest.skip("this machine lets not even root mount a disk")
        return disk

    yield made
    if disk.is_mount():
        subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path) -> None:
    with (disk / "ballast").open("wb", buffering=0) as file, pytest.raises(OSError, match="space"):
        while True:
            file.write(bytes(64 * 1024))


@pytest.mark.parametrize("megabytes", [5, 24])
def test_a_disk_too_small_for_a_new_database_is_the_reason(
    small_disk: Callable[[int], Path], megabytes: int
) -> None:
    server = EmbeddedPostgres(small_disk(megabytes) / "server")
    assert "No space left on device" in refusal_of(server)
    assert not (server.path / "data").exists()
    assert [] == list(server.path.glob("data.init-*"))


def test_a_disk_that_filled_up_is_the_reason(
    copied: Path, small_disk: Callable[[int], Path]
) -> None:
    disk = small_disk(100)
    subprocess.run(["cp", "-a", str(copied), str(disk)], check=True)
    fill(disk)
    assert "No space left on device" in refusal_of(EmbeddedPostgres(disk / "server"))
    (disk / "ballast").unlink()
    with EmbeddedPostgres(disk / "server") as server:
        assert server.is_running()


def test_a_disk_too_full_for_redis_is_the_reason(small_disk: Callable[[int], Path]) -> None:
    disk = small_disk(1)
    (disk / "server").mkdir()
    fill(disk)
    assert "No space left on device" in refusal_of(EmbeddedRedis(disk / "server"))


def test_redis_ends_in_good_order_on_a_disk_that_filled_up(
    small_disk: Callable[[int], Path],
) -> None:
    with EmbeddedRedis(small_disk(2) / "server") as server:
        with redis.Redis.from_url(server.url, decode_responses=True) as client:
            client.set("word", "kept")
            fill(server.path.parent)
            server.stop()
        (server.path.parent / "ballast").unlink()
        server.start()
        with redis.Redis.from_url(server.url, decode_responses=True) as client:
            assert "kept" == client.get("word")


def test_damaged_data_is_the_reason(copied: Path) -> None:
    (copied / "data" / "global" / "pg_control").unlink()
    assert 'pg_control": No such file or directory' in refusal_of(EmbeddedPostgres(copied))


def test_a_setting_out_of_range_is_the_reason(copied: Path) -> None:
    server = EmbeddedPostgres(copied, settings={"shared_buffers": "1TB"})
    assert "could not map anonymous shared memory" in refusal_of(server)


def test_damaged_redis_data_is_the_reason(folder: Path) -> None:
    with EmbeddedRedis(folder) as server:
        pass
    for file in (*server._folder.data.rglob("*.aof*"), *server._folder.data.rglob("*.rdb")):
        file.write_bytes(b"not what Redis wrote")
    assert "did not start" in refusal_of(EmbeddedRedis(folder))


def test_a_server_that_is_not_ready_in_time_is_given_up(make: Make) -> None:
    assert "no answer within 0.001 s" in refusal_of(make(start_timeout=0.001))


def test_programs_that_are_not_there_are_named(kind: type[Server], folder: Path) -> None:
    missing = folder / "nothing here"
    option: dict[str, Any] = {"bindir" if kind is EmbeddedPostgres else "server": missing}
    assert str(missing) in refusal_of(kind(folder / "server", **option))


def test_a_folder_that_is_a_file_is_refused(kind: type[Server], folder: Path) -> None:
    file = folder / "server"
    file.touch()
    with pytest.raises(EmbeddedServerError, match="cannot be started"):
        kind(file).start()


def test_a_folder_of_the_other_server_is_refused(folder: Path) -> None:
    with EmbeddedRedis(folder):
        assert "belongs to an embedded Redis" in refusal_of(EmbeddedPostgres(folder))


def test_a_path_with_control_characters_is_refused(kind: type[Server]) -> None:
    with pytest.raises(EmbeddedServerError, match="control character"):
        kind("/tmp/one\ntwo")


def test_a_start_that_hangs_elsewhere_is_not_waited_for_for_ever(make: Make) -> None:
    make().path.mkdir(exist_ok=True)
    with locked(make().path / ".lock"):
        assert "another process has held" in refusal_of(make(start_timeout=0.2))


def test_a_folder_in_use_where_we_cannot_see_it_is_left_alone(make: Make) -> None:
    """Such as by a server in another container that has the folder too."""
    make().path.mkdir(exist_ok=True)
    with locked(make().path / ".life"):
        message = refusal_of(make(start_timeout=0.2))
    assert "still used by processes of an earlier" in message


def test_links_in_the_place_of_our_files_are_not_followed(make: Make, folder: Path) -> None:
    make().path.mkdir(exist_ok=True)
    victim = folder / "victim"
    victim.write_text("untouched")
    lock = make().path / ".lock"
    lock.unlink(missing_ok=True)
    lock.symlink_to(victim)
    assert ".lock cannot be opened" in refusal_of(make())
    assert "untouched" == victim.read_text()


def test_an_account_that_may_not_write_the_folder_is_told_so(
    run_as_nobody: Callable[[str], str], folder: Path
) -> None:
    program = f"""
from rootstream_db.embedded import EmbeddedRedis
from rootstream_db.errors import EmbeddedServerError
try:
    EmbeddedRedis({str(folder / "server")!r}).start()
except EmbeddedServerError as error:
    print(error)
"""
    assert "Permission denied" in run_as_nobody(program)
    assert [] == list(folder.iterdir())
