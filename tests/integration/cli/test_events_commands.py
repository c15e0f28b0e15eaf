"""``rootstream-db events``: following the log and holding it against its own hashes."""

from __future__ import annotations

import json

import pytest
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
