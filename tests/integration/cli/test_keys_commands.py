"""``rootstream-db keys``: from the first key in a file to a key that is dropped."""

from __future__ import annotations

import json
import os
import time
import uuid
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rootstream_db.cli.app import app
from rootstream_db.rootstream import RootStream
from rootstream_db.services.key_rotation import SETTLED_AFTER
from rootstream_db.settings import Settings


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "master_keys"


@pytest.fixture(autouse=True)
def configured(clean_database_url, redis_url, path, monkeypatch):
    monkeypatch.setenv("ROOTSTREAM_DATABASE_URL", clean_database_url)
    monkeypatch.setenv("ROOTSTREAM_REDIS_URL", redis_url)
    monkeypatch.setenv("ROOTSTREAM_SECURITY__ENVIRONMENT", "production")
    assert 0 == run("keys", "add", "--file", str(path)).exit_code
    monkeypatch.setenv("ROOTSTREAM_SECURITY__MASTER_KEYS_FILE", str(path))


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def as_json(*arguments: str) -> dict:
    result = run(*arguments, "--json")
    assert 0 == result.exit_code, result.output
    found: dict = json.loads(result.stdout)
    return found


def seal_something() -> None:
    with RootStream(Settings.load()) as rs, rs.transaction() as work:
        rs.events.append(
            work, "Member", "1", "Joined", {}, personal={"n": 1}, subject_id=uuid.uuid4()
        )


def settle(path: Path) -> None:
    long_ago = time.time() - SETTLED_AFTER.total_seconds() - 1
    os.utime(path, (long_ago, long_ago))


def test_a_key_is_added_rotated_to_and_the_old_one_dropped(path):
    seal_something()
    assert {"key_id": 2, "file": str(path)} == as_json("keys", "add")
    first, second = as_json("keys", "status")["keys"]
    assert (1, True, False, 1) == (first["key_id"], first["known"], first["seals"], first["values"])
    assert "1 in subject_keys.wrapped" == first["where"]
    assert (2, True, 0) == (second["key_id"], second["seals"], second["values"])

    settle(path)
    refused = run("keys", "drop", "1")
    assert 1 == refused.exit_code
    assert "still under master key 1" in refused.stderr
    rotated = {"key_id": 2, "resealed": 1, "broken": [], "lost": 0}
    assert rotated == as_json("keys", "rotate")
    assert {"dropped": 1} == as_json("keys", "drop", "1")
    assert [2] == [key["key_id"] for key in as_json("keys", "status")["keys"]]


def test_a_key_that_was_just_replaced_is_not_dropped(path):
    as_json("keys", "add")
    refused = run("keys", "drop", "1")
    assert 1 == refused.exit_code
    assert "changed a moment ago" in refused.stderr


def test_a_missing_key_is_a_warning_and_status_3(path):
    seal_something()
    kept = path.read_text()
    as_json("keys", "add")
    path.write_text(path.read_text().removeprefix(kept))
    status = run("keys", "status", "--quiet")
    assert 3 == status.exit_code
    assert "1 values are under key 1, which is not there" in status.stderr
    rotated = run("keys", "rotate", "--quiet")
    assert (3, "") == (rotated.exit_code, rotated.stdout)
    assert "1 are under missing keys" in rotated.stderr


def test_keys_that_come_from_no_file_are_not_added_to(path, monkeypatch):
    monkeypatch.setenv("ROOTSTREAM_SECURITY__MASTER_KEYS", path.read_text())
    monkeypatch.delenv("ROOTSTREAM_SECURITY__MASTER_KEYS_FILE")
    refused = run("keys", "add")
    assert 78 == refused.exit_code
    assert "do not come from a file" in refused.stderr


def test_no_command_shows_a_key(path):
    seal_something()
    shown = [run("keys", *words).output for words in (["add"], ["status"], ["rotate"])]
    for line in path.read_text().splitlines():
        assert not [text for text in shown if line.partition(":")[2] in text]
