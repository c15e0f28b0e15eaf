"""``rootstream-db session``: who is logged in, and how that ends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from rootstream_db.cli.app import app
from rootstream_db.errors import SessionRevokedError
from rootstream_db.rootstream import RootStream
from rootstream_db.testing import settings_for
from tests.factories import make_user

if TYPE_CHECKING:
    from typer.testing import Result


@pytest.fixture(autouse=True)
def configured(clean_database_url, redis_url, monkeypatch):
    """The environment of an operator whose servers are this worker's."""
    monkeypatch.setenv("ROOTSTREAM_DATABASE_URL", clean_database_url)
    monkeypatch.setenv("ROOTSTREAM_REDIS_URL", redis_url)


@pytest.fixture
def site(clean_database_url, redis_url):
    with RootStream(settings_for(clean_database_url, redis_url)) as site:
        yield site


@pytest.fixture
def alice(site):
    with site.transaction() as work:
        return make_user(work, username="alice")


@pytest.fixture
def log_in(site, alice):
    def log_in(**client):
        with site.transaction() as work:
            return site.sessions.create(work, alice, **client)

    return log_in


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(app, ["session", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def as_json(*arguments: str) -> dict:
    result = run(*arguments, "--json")
    assert 0 == result.exit_code, result.output
    found: dict = json.loads(result.stdout)
    return found


def refused(site, issued):
    with pytest.raises(SessionRevokedError):
        site.sessions.validate(issued.token)
    return True


def test_sessions_are_listed_without_their_tokens(log_in):
    assert {"sessions": []} == as_json("list", "alice")
    issued = log_in(ip_address="192.0.2.1", device_label="Phone", location="Lisbon")
    (row,) = as_json("list", "ALICE")["sessions"]
    assert (issued.session.id, "Phone", "192.0.2.1", "Lisbon", "PASSWORD") == (
        *(row["id"], row["device"], row["ip_address"], row["location"], row["level"]),
    )
    assert issued.token not in run("list", "alice").output


def test_some_sessions_are_ended_by_their_ids(site, log_in):
    issued = [log_in() for _ in range(3)]
    result = as_json("revoke", *(str(one.session.id) for one in issued[:2]))
    assert (2, True) == (result["revoked"], result["immediate"])
    assert all(refused(site, one) for one in issued[:2])
    assert site.sessions.validate(issued[2].token)
    assert 10 == run("revoke", str(issued[0].session.id)).exit_code


def test_all_sessions_of_an_account_are_ended(site, log_in):
    issued = [log_in() for _ in range(2)]
    assert 2 == as_json("revoke", "--user", "alice")["revoked"]
    assert all(refused(site, one) for one in issued)
    assert 10 == run("revoke", "--user", "nobody").exit_code


def test_all_sessions_there_are_are_ended(site, log_in):
    issued = log_in()
    assert 1 == as_json("revoke", "--everybody", "restored to noon")["revoked"]
    assert refused(site, issued)


@pytest.mark.parametrize(
    "arguments", [(), ("1", "--user", "alice"), ("--user", "a", "--everybody", "b")]
)
def test_what_is_to_be_ended_is_said_once(arguments):
    assert 2 == run("revoke", *arguments).exit_code


def test_an_operator_is_warned_when_redis_could_not_be_told(site, log_in, monkeypatch):
    issued = log_in()
    monkeypatch.setenv("ROOTSTREAM_REDIS_URL", "unix:///nowhere")
    result = run("revoke", str(issued.session.id))
    assert 3 == result.exit_code
    assert "1 sessions ended. Redis could not be told" in result.output


def test_cleaning_up_tells_what_it_deleted(site, alice, log_in):
    log_in()
    with site.transaction() as work:
        (row,) = site.sessions.list_for_user(work, alice)
        row.idle_expires_at = row.expires_at = row.created_at
    assert {"deleted": 1} == as_json("cleanup")
    assert {"deleted": 0} == as_json("cleanup")
