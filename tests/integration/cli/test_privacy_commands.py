"""``rootstream-db user export`` and ``erase``: a copy, the end, and the end once more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rootstream_db.cli.app import app


@pytest.fixture(autouse=True)
def configured(clean_database_url, redis_url, monkeypatch):
    monkeypatch.setenv("ROOTSTREAM_DATABASE_URL", clean_database_url)
    monkeypatch.setenv("ROOTSTREAM_REDIS_URL", redis_url)
    monkeypatch.setenv("ROOTSTREAM_ACCOUNTS__ARGON2_PROFILE", "cheapest-for-tests")
    assert 0 == run("user", "register", "alice", "alice@example.com").exit_code


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


def test_a_copy_is_written_to_standard_output_or_to_a_private_file(tmp_path: Path):
    shown = json.loads(run("user", "export", "alice").stdout)
    assert "alice@example.com" == shown["account"][0]["email"]
    path = tmp_path / "alice.json"
    assert {"file": str(path)} == as_json("user", "export", "alice", "--output", str(path))
    assert shown["events"] == json.loads(path.read_bytes())["events"]
    assert 0o600 == path.stat().st_mode & 0o777


def test_an_erasure_asks_for_yes():
    refused = run("user", "erase", "alice")
    assert 2 == refused.exit_code
    assert "say --yes" in refused.stderr
    assert "alice" == as_json("user", "show", "alice")["username"]


def test_an_erased_person_is_in_the_ledger_and_can_be_erased_again(tmp_path: Path):
    ledger = tmp_path / "erasures.jsonl"
    erased = as_json("user", "erase", "alice", "--yes")
    assert 10 == run("user", "show", "alice").exit_code
    assert {"added": 1} == as_json("user", "erasures", str(ledger))
    assert erased["subject_id"] == json.loads(ledger.read_text())["subject_id"]
    assert {"added": 0} == as_json("user", "erasures", str(ledger))
    assert {"erased": 0} == as_json("user", "reapply-erasures", str(ledger))
