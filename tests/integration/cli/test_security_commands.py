"""``rootstream-db security``: what was noticed, and a network let in again."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from rootstream_db.cli.app import app
from rootstream_db.errors import InvalidCredentialsError, RateLimitedError


@pytest.fixture(autouse=True)
def configured(clean_database_url, redis_url, monkeypatch):
    monkeypatch.setenv("ROOTSTREAM_DATABASE_URL", clean_database_url)
    monkeypatch.setenv("ROOTSTREAM_REDIS_URL", redis_url)
    monkeypatch.setenv("ROOTSTREAM_ACCOUNTS__ARGON2_PROFILE", "cheapest-for-tests")


def as_json(*arguments: str) -> dict:
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert 0 == result.exit_code, result.output
    found: dict = json.loads(result.stdout)
    return found


def guess(rootstream, login, error=InvalidCredentialsError):
    with pytest.raises(error), rootstream.transaction() as work:
        rootstream.accounts.authenticate(work, login, "wrong", ip_address="203.0.113.9")


def test_an_attack_is_shown_and_its_network_let_in_again(rootstream):
    user = as_json("user", "register", "alice", "alice@example.com")
    for attempt in range(10):
        guess(rootstream, f"customer{attempt}")
    guess(rootstream, "alice", RateLimitedError)
    shown = as_json("security", "events", "--hours", "9000000")["events"]
    assert [("password_spraying", "high")] == [(row["kind"], row["risk"]) for row in shown]
    assert "10 wrong passwords for 10 accounts from one network" == shown[0]["details"]
    assert {"network": "203.0.113.0/24"} == as_json("security", "unblock", "203.0.113.200")
    guess(rootstream, "alice")
    rows = as_json("security", "events", "--user", "alice", "--risk", "low", "--hours", "9000000")
    assert [("login_failed", user["id"])] == [
        (row["kind"], row["user_id"]) for row in rows["events"]
    ]


def test_a_word_that_is_no_address_is_refused():
    result = CliRunner().invoke(app, ["security", "unblock", "everybody"])
    assert 2 == result.exit_code
    assert "neither an IPv4 nor an IPv6 address" in result.stderr
