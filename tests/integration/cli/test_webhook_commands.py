"""``rootstream-db webhook``: from an endpoint to a message that is given up and sent anew."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from rootstream_db.cli.app import app
from tests.fixtures.receiver import Receiver

if TYPE_CHECKING:
    from typer.testing import Result


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(autouse=True)
def configured(clean_database_url, redis_url, monkeypatch):
    monkeypatch.setenv("ROOTSTREAM_DATABASE_URL", clean_database_url)
    monkeypatch.setenv("ROOTSTREAM_REDIS_URL", redis_url)
    monkeypatch.setenv("ROOTSTREAM_ACCOUNTS__ARGON2_PROFILE", "cheapest-for-tests")
    monkeypatch.setenv("ROOTSTREAM_WEBHOOKS__ATTEMPTS", "1")


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


def test_a_message_is_delivered_given_up_and_sent_anew(receiver):
    made = as_json("webhook", "add", receiver.url("/500"), "--event-type", "UserRegistered")
    endpoint = str(made["id"])
    as_json("user", "register", "alice", "alice@example.com")
    assert 2 == as_json("webhook", "status")["events_behind"]
    assert {"relayed": 1, "attempts": 1} == as_json("webhook", "run", "--once")
    assert {"events_behind": 0, "seconds_overdue": 0} == as_json("webhook", "status")
    [row] = as_json("webhook", "deliveries", endpoint, "--state", "dead")["deliveries"]
    assert ("UserRegistered", 500) == (row["type"], row["last_status"])
    [listed] = as_json("webhook", "list")["endpoints"]
    assert (0, 0, 1) == (listed["pending"], listed["delivered"], listed["dead"])
    assert made["secret"] not in json.dumps(listed)

    receiver.answers["/500"] = 200
    assert {"redelivered": 1} == as_json("webhook", "redeliver", str(row["id"]))
    assert {"redelivered": 0} == as_json("webhook", "redeliver", "--dead-of", endpoint)
    assert {"relayed": 0, "attempts": 1} == as_json("webhook", "run", "--once")
    tried = as_json("webhook", "attempts", str(row["id"]))["attempts"]
    assert [500, 200] == [attempt["status"] for attempt in tried]
    assert all(request.is_signed_with(made["secret"]) for request in receiver.received)


def test_an_endpoint_is_disabled_enabled_and_removed():
    made = as_json("webhook", "add", "https://hooks.example.com/", "--description", "a test")
    endpoint = str(made["id"])
    disabled = as_json("webhook", "disable", endpoint, "--reason", "moving")
    assert "disabled: moving" == disabled["state"]
    assert "enabled" == as_json("webhook", "enable", endpoint)["state"]
    assert as_json("webhook", "remove", endpoint)["removed"] is True
    assert [] == as_json("webhook", "list")["endpoints"]


def test_an_endpoint_may_have_an_owner():
    as_json("user", "register", "alice", "alice@example.com")
    as_json("webhook", "add", "https://hooks.example.com/", "--owner", "alice")
    assert 10 == run("webhook", "add", "https://a.example.com/", "--owner", "nobody").exit_code


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (2, ("add", "http://example.com/")),
        (2, ("redeliver",)),
        (2, ("redeliver", "1", "--dead-of", "1")),
        (10, ("redeliver", "1")),
        (10, ("remove", "1")),
        (10, ("deliveries", "1")),
        (10, ("attempts", "1")),
        (2, ("deliveries", "1", "--state", "lost")),
    ],
)
def test_what_cannot_be_done_has_its_exit_status(code, arguments):
    assert code == run("webhook", *arguments).exit_code


def test_a_worker_delivers_until_it_is_told_to_stop(receiver):
    as_json("webhook", "add", receiver.url(), "--event-type", "UserRegistered")
    program = [sys.executable, "-c", "from rootstream_db.cli.app import main; main()"]
    worker = subprocess.Popen(
        [*program, "webhook", "run"], stdout=subprocess.PIPE, env={**os.environ, "NO_COLOR": "1"}
    )
    try:
        assert worker.stdout is not None
        assert b"delivering webhooks\n" == worker.stdout.readline()
        as_json("user", "register", "alice", "alice@example.com")
        deadline = time.monotonic() + 30
        while not receiver.received:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        worker.send_signal(signal.SIGTERM)
        assert 0 == worker.wait(30)
    finally:
        worker.kill()
        worker.communicate()
