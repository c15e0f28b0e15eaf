"""Projections and replay on the command line: what is shown, and the exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from rootstream_db.cli.app import app
from rootstream_db.services.event_store import NewEvent

CHECKOUT = Path(__file__).resolve().parents[3]
DEADLINE = 60.0


@pytest.fixture(autouse=True)
def configured(clean_database_url, redis_url, monkeypatch):
    monkeypatch.setenv("ROOTSTREAM_DATABASE_URL", clean_database_url)
    monkeypatch.setenv("ROOTSTREAM_REDIS_URL", redis_url)


@pytest.fixture
def history(rootstream):
    with rootstream.transaction() as work:
        rootstream.events.append_many(
            work,
            "Poll",
            "42",
            [
                NewEvent(event_type="PollOpened", data={"question": "Why?", "votes": 0}, user_id=7),
                NewEvent(event_type="Voted", data={"votes": 1}, user_id=8),
            ],
        )


@pytest.fixture
def poisoned(rootstream):
    with rootstream.transaction() as work:
        rootstream.events.append(work, "Stream", "7", "StreamEnded", {"unlike": "any other"})


def run(*arguments):
    result = CliRunner().invoke(app, ["events", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def rows(*arguments, code=0):
    result = run(*arguments, "--json")
    assert code == result.exit_code, result.output
    return {row["name"]: row for row in json.loads(result.stdout)["projections"]}


@pytest.mark.usefixtures("history")
def test_projections_are_brought_up_to_date_and_shown(rootstream):
    assert 2 == rows("projections")["activity_feed"]["lag_events"]
    assert 2 == rows("project")["activity_feed"]["events"]
    assert ("current", 0) == tuple(
        rows("projections")["activity_feed"][name] for name in ("state", "lag_events")
    )
    assert 1 == len(rootstream.activity.list_for_user(7))


@pytest.mark.usefixtures("history")
def test_one_projection_can_be_named(rootstream):
    assert ["activity_feed"] == list(rows("project", "--once", "activity_feed"))
    assert 10 == run("project", "nothing").exit_code


@pytest.mark.usefixtures("poisoned")
def test_a_projection_that_cannot_go_on_is_exit_3_and_can_be_helped():
    made = rows("project", code=3)
    assert ("failed", "current") == (
        made["stream_stats_day"]["outcome"],
        made["activity_feed"]["outcome"],
    )
    shown = rows("projections", code=3)["stream_stats_day"]
    assert ("failed", 1, "KeyError: 'started_at'") == (
        shown["state"],
        shown["failed_position"],
        shown["last_error"],
    )
    assert "KeyError" in run("projections").stdout
    assert 1 == run("skip", "stream_stats_day", "9", "--reason", "a test").exit_code
    assert 0 == run("skip", "stream_stats_day", "1", "--reason", "a test").exit_code
    assert "current" == rows("project")["stream_stats_day"]["outcome"]


@pytest.mark.usefixtures("history")
def test_a_projection_somebody_works_on_is_exit_11(rootstream):
    rows("project")
    with rootstream.transaction() as work:
        work.session.execute(
            text("UPDATE projection_checkpoints SET owner = 'other', lease_until = '2999-01-01'")
        )
    assert {"busy"} == {row["outcome"] for row in rows("project", code=11).values()}


@pytest.mark.usefixtures("history")
def test_a_read_model_is_made_anew(rootstream):
    rows("project")
    with rootstream.transaction() as work:
        work.activity.clear()
    result = run("rebuild", "activity_feed", "--json")
    assert (0, 2) == (result.exit_code, json.loads(result.stdout)["events"])
    assert 1 == len(rootstream.activity.list_for_user(7))
    assert 10 == run("rebuild", "nothing").exit_code


@pytest.mark.usefixtures("history")
def test_the_state_of_an_aggregate_is_shown_now_and_then():
    now = json.loads(run("replay", "Poll", "42", "--json").stdout)
    assert (2, "Voted", {"question": "Why?", "votes": 1}) == (
        now["version"],
        now["last_event"],
        now["state"],
    )
    then = json.loads(run("replay", "Poll", "42", "--at-version", "1", "--json").stdout)
    assert {"question": "Why?", "votes": 0} == then["state"]
    before = run("replay", "Poll", "42", "--at-time", "2000-01-01T00:00:00+00:00")
    assert 10 == before.exit_code
    assert 0 == run("replay", "Poll", "42", "--at-time", "2999-01-01T00:00:00Z").exit_code


@pytest.mark.parametrize("moment", ["yesterday", "2026-01-01T00:00:00"])
def test_a_moment_without_meaning_is_a_usage_error(moment):
    assert 2 == run("replay", "Poll", "42", "--at-time", moment).exit_code


@pytest.mark.usefixtures("history")
def test_following_ones_go_on_until_told_to_stop(rootstream):
    program = "from rootstream_db.cli.app import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", program, "events", "project", "--follow"],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stderr=subprocess.DEVNULL,
    ) as process:
        until = time.monotonic() + DEADLINE
        while not rootstream.activity.list_for_user(7):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert 0 == process.wait(DEADLINE)
    assert {None} == {status.owner for status in rootstream.projections.status()}
