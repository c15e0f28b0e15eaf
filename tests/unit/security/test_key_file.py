"""The file of the master keys: read anew, added to and taken from as a whole."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from rootstream_db.errors import ConfigurationError, ConflictError, NotFoundError
from rootstream_db.security.key_file import MasterKeyFile


@pytest.fixture
def file(tmp_path: Path) -> MasterKeyFile:
    return MasterKeyFile(tmp_path / "keys")


def test_a_key_file_is_read_anew(tmp_path: Path):
    path = tmp_path / "keys"
    path.write_text(f"1:{'A' * 43}=\n")
    source = MasterKeyFile(path)
    assert {1: bytes(32)} == source()
    path.write_text(f"1:{'A' * 43}=\n2:{'B' * 42}A=\n")
    assert [1, 2] == list(source())


@pytest.mark.parametrize("content", [None, b"", b"1:short", b"1:\xff" + b"A" * 42])
def test_a_key_file_that_holds_no_keys_is_a_wrong_setting(tmp_path: Path, content: bytes | None):
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="the master keys: ") as caught:
        MasterKeyFile(path)()
    assert "security.master_keys" == caught.value.setting
    assert "AAAA" not in str(caught.value)


def test_the_first_key_makes_the_file_for_its_owner_alone(file: MasterKeyFile):
    assert 1 == file.add()
    assert {1: 32} == {number: len(key) for number, key in file().items()}
    assert 0o600 == stat.S_IMODE(file.path.stat().st_mode)
    assert [file.path] == list(file.path.parent.iterdir())


def test_a_new_key_takes_the_next_number_and_leaves_the_others(file: MasterKeyFile):
    file.add()
    first = file()[1]
    assert 2 == file.add()
    assert first == file()[1]
    assert 2 == len(set(file().values()))


def test_whoever_could_read_the_file_still_can(file: MasterKeyFile):
    file.add()
    file.path.chmod(0o640)
    file.add()
    assert 0o640 == stat.S_IMODE(file.path.stat().st_mode)


def test_an_old_key_is_dropped_and_the_newest_is_not(file: MasterKeyFile):
    for _ in range(3):
        file.add()
    file.drop(1)
    assert [2, 3] == list(file())
    with pytest.raises(ConflictError, match="key 3 is the newest and seals"):
        file.drop(3)
    with pytest.raises(NotFoundError):
        file.drop(1)
    assert [2, 3] == list(file())


def test_what_is_no_key_file_is_not_written_over(file: MasterKeyFile):
    file.path.write_text("my diary")
    with pytest.raises(ConfigurationError):
        file.add()
    assert "my diary" == file.path.read_text()


def test_a_folder_that_is_not_there_is_a_wrong_setting(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="cannot be written: No such file"):
        MasterKeyFile(tmp_path / "none" / "keys").add()


def test_many_that_add_at_once_lose_no_key(file: MasterKeyFile):
    threads = [threading.Thread(target=file.add) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(range(1, 13)) == list(file())
