"""``rootstream-db access``: from a role to what it allows, and keys from first to last."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import psycopg
import pytest
from typer.testing import CliRunner

from rootstream_db.cli.app import app

if TYPE_CHECKING:
    from typer.testing import Result


@pytest.fixture(autouse=True)
def configured(clean_database_url, redis_url, monkeypatch):
    monkeypatch.setenv("ROOTSTREAM_DATABASE_URL", clean_database_url)
    monkeypatch.setenv("ROOTSTREAM_REDIS_URL", redis_url)
    monkeypatch.setenv("ROOTSTREAM_ACCOUNTS__ARGON2_PROFILE", "cheapest-for-tests")


@pytest.fixture
def alice():
    return as_json("user", "register", "alice", "alice@example.com")


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(app, ["access", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def as_json(*arguments: str) -> dict:
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert 0 == result.exit_code, result.output
    found: dict = json.loads(result.stdout)
    return found


def access(*arguments: str) -> dict:
    return as_json("access", *arguments)


def test_a_role_is_made_filled_joined_and_removed():
    made = access("role", "create", "guest", "-p", "chat.read", "--parent", "viewer")
    assert (["chat.read"], ["viewer"]) == (made["permissions"], made["parents"])
    assert access("role", "set", "guest", "-p", "chat.*", "-p", "poll.open")["immediate"]
    assert access("role", "remove-parent", "guest", "viewer")["immediate"]
    assert access("role", "add-parent", "guest", "moderator")["immediate"]
    listed = {role["name"]: role for role in access("role", "list")["roles"]}
    assert {"viewer", "streamer", "owner", "moderator", "admin", "guest"} == set(listed)
    assert (["chat.*", "poll.open"], ["moderator"]) == (
        listed["guest"]["permissions"],
        listed["guest"]["parents"],
    )
    assert access("role", "delete", "guest")["deleted"] is True


def test_a_cycle_is_shown():
    access("role", "create", "one", "--parent", "moderator")

    result = run("role", "add-parent", "viewer", "one")

    assert 1 == result.exit_code
    assert "viewer > one > moderator > viewer" in result.stderr


def test_a_role_is_granted_and_taken_away(alice):
    stream = as_json("stream", "create", "alice", "Speedrun")
    other = as_json("user", "register", "bob", "bob@example.com")
    where = ("--stream", str(stream["id"]))
    given = access("grant", "bob", "moderator", *where, "--valid-days", "7")
    assert stream["id"] == given["stream_id"]
    [row] = access("grants", "bob")["grants"]
    assert ("moderator", given["expires_at"]) == (row["role"], row["expires_at"])

    everywhere = {row["permission"] for row in access("permissions", "bob")["permissions"]}
    there = {row["permission"] for row in access("permissions", "bob", *where)["permissions"]}
    assert {"chat.read", "chat.write", "stream.watch"} == everywhere
    assert {"chat.*", "viewer.*", "stream.watch"} == there
    assert access("check", "bob", "chat.ban", *where)["allowed"]
    denied = run("check", "bob", "chat.ban")
    assert 1 == denied.exit_code
    assert "the permission 'chat.ban' is missing" in denied.stderr

    assert access("revoke", "bob", "moderator", *where)["immediate"] is True
    assert 1 == run("check", "bob", "chat.ban", *where).exit_code
    assert 10 == run("revoke", "bob", "moderator", *where).exit_code
    assert 10 == run("grant", "nobody", "moderator").exit_code
    assert 10 == run("grant", "bob", "nothing").exit_code
    assert 10 == run("permissions", "bob", "--stream", "0").exit_code
    assert other["id"] != alice["id"]


def test_owners_are_seen_as_such(alice):
    stream = as_json("stream", "create", "alice", "Speedrun")

    assert access("check", "alice", "stream.update", "--stream", str(stream["id"]))["allowed"]


def test_a_key_is_issued_rotated_and_revoked(alice):
    made = access("key", "issue", "alice", "-s", "chat.read", "--label", "bot", "--valid-days", "9")
    assert made["key"].startswith(made["prefix"])
    new = access("key", "rotate", str(made["id"]), "--overlap-hours", "1")
    assert new["key"] != made["key"]
    assert new["old_ends_at"] < new["expires_at"]
    assert access("key", "revoke", str(new["id"]))["revoked"] is True
    listed = access("key", "list", "alice")["keys"]
    assert [(made["id"], "valid"), (new["id"], "revoked")] == [
        (key["id"], key["state"]) for key in listed
    ]
    assert made["key"] not in json.dumps(listed)
    access("key", "issue", "alice", "-s", "chat.read")
    again = run("key", "rotate", str(made["id"]))
    assert 1 == again.exit_code
    assert "was rotated before" in again.stderr
    assert 10 == run("key", "revoke", "0").exit_code


def test_wrong_input_is_named(alice):
    assert "no permission" in run("check", "alice", "chat.*").stderr
    assert "neither a permission" in run("role", "create", "x", "-p", "Chat").stderr
    assert 2 == run("key", "issue", "alice").exit_code


def test_grants_that_ended_are_deleted_from_cron(alice, clean_database_url):
    access("grant", "alice", "moderator", "--valid-days", "1")
    access("grant", "alice", "admin", "--valid-days", "1")
    with psycopg.connect(clean_database_url) as connection:
        connection.execute(
            "UPDATE role_grants SET expires_at = now() - interval '1 day' "
            "WHERE role_id = (SELECT id FROM roles WHERE name = 'admin')"
        )

    assert {"deleted": 1} == access("delete-expired")
    assert ["moderator"] == [row["role"] for row in access("grants", "alice")["grants"]]


def test_the_doctor_sees_a_role_that_is_named_and_not_there(monkeypatch):
    def diagnosis():
        result = CliRunner().invoke(app, ["doctor", "--json"])
        found = json.loads(result.stdout)["diagnoses"]
        return next(row for row in found if row["check"] == "access")

    assert {"check": "access", "state": "ok", "finding": "5 roles"} == diagnosis()
    monkeypatch.setenv("ROOTSTREAM_ACCESS__OWNER_ROLE", "onwer")
    assert "warning" == diagnosis()["state"]
    assert "names 'onwer', which is no role" in diagnosis()["finding"]
