"""``rootstream-db events archive``: what is moved, and what the exit status says."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from rootstream_db.cli.app import app
from rootstream_db.rootstream import RootStream
from rootstream_db.services.event_archive import archiver


@pytest.fixture
def three(rootstream: RootStream, clean_database_url, redis_url, monkeypatch, tmp_path):
    """A log of three commits, and an operator's environment that leads to it."""
    monkeypatch.setenv("ROOTSTREAM_DATABASE_URL", clean_database_url)
    monkeypatch.setenv("ROOTSTREAM_REDIS_URL", redis_url)
    monkeypatch.setenv("ROOTSTREAM_EVENTS__ARCHIVE_DIRECTORY", str(tmp_path / "archive"))
    for event_type in ("PollOpened", "Voted", "PollClosed"):
        with rootstream.transaction() as work:
            rootstream.events.append(work, "Poll", "42", event_type, {"n": 1}, user_id=7)
    return rootstream


def run(*arguments: str, exit_code: int = 0) -> str:
    result = CliRunner().invoke(app, ["events", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert exit_code == result.exit_code, result.output
    return result.stdout


def archives(*arguments: str) -> list[dict]:
    found: list[dict] = json.loads(run(*arguments, "--json"))["archives"]
    return found


@pytest.mark.usefixtures("three")
def test_archiving_shows_a_table_and_the_commands_go_on_reading():
    assert "events-0-000000000001-000000000002-" in run("archive", "--before-position", "3")
    assert "nothing to archive" in run("archive", "--before-position", "3")
    assert "1 │ " in run("archives")
    assert [1, 2, 3] == [event["position"] for event in json.loads(run("list", "--json"))["events"]]
    assert 3 == len(json.loads(run("show", "Poll", "42", "--json"))["events"])
    assert "3 events and 0 anchors hold" in run("verify")


@pytest.mark.usefixtures("three")
def test_programs_get_every_archive_as_an_object(tmp_path):
    assert [] == archives("archives")
    (made,) = archives("archive", "--keep", "1")
    assert (1, 2, 2) == (made["first_position"], made["last_position"], made["events"])
    assert made["bytes"] == (tmp_path / "archive" / made["file"]).stat().st_size
    assert [made] == archives("archives")
    assert [] == archives("archive", "--keep", "1")


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(("age", "events"), [("90d", 0), ("0s", 3)])
def test_an_age_is_a_length_of_time(age, events, monkeypatch):
    # The command's clock is the real one, the events were recorded a moment ago.
    assert events == sum(made["events"] for made in archives("archive", "--older-than", age))


@pytest.mark.usefixtures("three")
def test_wrong_usage_is_said_before_anything_moves():
    run("archive", exit_code=2)
    run("archive", "--older-than", "soon", exit_code=2)
    assert [] == archives("archives")


def test_a_second_archiver_exits_with_11(three):
    with three.database.exclusively(archiver.JOB):
        error = json.loads(run("archive", "--keep", "0", "--json", exit_code=11))["error"]
    assert "storage.job_running" == error["code"]


@pytest.mark.usefixtures("three")
def test_a_missing_file_is_named_by_readers_and_by_verify(tmp_path):
    (made,) = archives("archive", "--keep", "0")
    (tmp_path / "archive" / made["file"]).unlink()
    error = json.loads(run("list", "--json", exit_code=1))["error"]
    assert "storage.event_archive_missing" == error["code"]
    assert made["file"] in error["message"]
    finding = json.loads(run("verify", "--json", exit_code=1))["finding"]
    assert ("missing archive", 1) == (finding["problem"], finding["position"])


@pytest.mark.usefixtures("three")
def test_without_a_directory_the_setting_is_named(monkeypatch):
    monkeypatch.delenv("ROOTSTREAM_EVENTS__ARCHIVE_DIRECTORY")
    error = json.loads(run("archive", "--keep", "0", "--json", exit_code=78))["error"]
    assert "events.archive_directory" == error["context"]["setting"]


def examined() -> dict:
    result = CliRunner().invoke(app, ["doctor", "--json"])
    found = json.loads(result.stdout)["diagnoses"]
    return next(diagnosis for diagnosis in found if diagnosis["check"] == "event archive")


@pytest.mark.usefixtures("three")
def test_the_doctor_counts_the_files_and_misses_those_that_are_gone(tmp_path, monkeypatch):
    assert "0 files of old events, all there" == examined()["finding"]
    (made,) = archives("archive", "--keep", "0")
    assert "1 files of old events, all there" == examined()["finding"]
    (tmp_path / "archive" / made["file"]).unlink()
    assert "warning" == examined()["state"]
    assert made["file"] in examined()["finding"]
    monkeypatch.delenv("ROOTSTREAM_EVENTS__ARCHIVE_DIRECTORY")
    assert "ROOTSTREAM_EVENTS__ARCHIVE_DIRECTORY" in examined()["finding"]
