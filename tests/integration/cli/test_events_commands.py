"""``rootstream-db events``: following the log and holding it against its own hashes."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from typer.testing import CliRunner

from rootstream_db.cli.app import app
from rootstream_db.rootstream import RootStream


@pytest.fixture
def three(rootstream: RootStream, clean_database_url, redis_url, monkeypatch) -> RootStream:
    """A log of three events, and an operator's environment that leads to it."""
    monkeypatch.setenv("ROOTSTREAM_DATABASE_URL", clean_database_url)
    monkeypatch.setenv("ROOTSTREAM_REDIS_URL", redis_url)
    for event_type in ("PollOpened", "Voted", "PollClosed"):
        with rootstream.transaction() as work:
            rootstream.events.append(work, "Poll", "42", event_type, {"n": 1})
    return rootstream


def run(*arguments: str, exit_code: int = 0) -> str:
    result = CliRunner().invoke(app, ["events", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert exit_code == result.exit_code, result.output
    return result.stdout


def lines(*arguments: str) -> list[dict]:
    return [json.loads(line) for line in run(*arguments, "--json").splitlines()]


@pytest.mark.usefixtures("three")
def test_tail_prints_the_latest_events_one_a_line():
    assert [2, 3] == [event["position"] for event in lines("tail", "--limit", "2")]
    assert ["Voted"] == [event["type"] for event in lines("tail", "--type", "Voted")]
    assert 'Poll/42 PollClosed {"n":1}' in run("tail", "--after-position", "2")


@pytest.mark.usefixtures("three")
def test_tail_follows_until_nothing_comes():
    followed = lines("tail", "--after-position", "1", "--follow", "--idle", "0.1")
    assert [2, 3] == [event["position"] for event in followed]


def test_verify_says_that_the_log_holds_or_where_it_does_not(three):
    assert "3 events and 0 anchors hold" in run("verify")
    with three.transaction() as work:
        connection = work.session.connection()
        connection.exec_driver_sql("SET LOCAL rootstream.maintenance = 'on'")
        connection.exec_driver_sql("UPDATE event_log SET user_id = 7 WHERE position = 2")
    run("verify", exit_code=1)
    told = json.loads(run("verify", "--json", exit_code=1))
    assert (False, 1) == (told["ok"], told["events"])
    assert ("changed row", 2) == (told["finding"]["problem"], told["finding"]["position"])
    assert "1 events and 0 anchors hold" in run("verify", "--after-position", "2")


@pytest.mark.usefixtures("three")
def test_signed_anchors_are_written_and_held_against_the_log(tmp_path):
    key = Ed25519PrivateKey.generate()
    private, public, file = (tmp_path / name for name in ("key.pem", "key.pub", "anchors.jsonl"))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    assert "at position 3" in run("anchor", "--file", str(file), "--key", str(private))
    anchored = ("--anchors", str(file), "--public-key", str(public))
    assert "3 events and 1 anchors hold" in run("verify", *anchored)
    run("anchor", "--file", str(file))
    assert 2 == len(file.read_bytes().splitlines())
    run("verify", *anchored, exit_code=1)
    run("verify", "--public-key", str(public), exit_code=2)
    run("anchor", "--file", str(file), "--key", str(public), exit_code=78)
