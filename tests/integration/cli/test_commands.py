"""The command line: what it prints, what it refuses, and the exit status it leaves."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import psycopg
import pytest
from typer.testing import CliRunner

from rootstream_db.cli.app import app
from rootstream_db.errors import StaleLeaseError
from rootstream_db.models import TokenPurpose

if TYPE_CHECKING:
    from typer.testing import Result

PASSWORD = "correct horse battery staple"


@pytest.fixture
def configured(clean_database_url, redis_url, monkeypatch):
    """The environment of an operator whose servers are this worker's."""
    monkeypatch.setenv("ROOTSTREAM_DATABASE_URL", clean_database_url)
    monkeypatch.setenv("ROOTSTREAM_REDIS_URL", redis_url)
    monkeypatch.setenv("ROOTSTREAM_ACCOUNTS__ARGON2_PROFILE", "cheapest-for-tests")


@pytest.fixture
def unconfigured(monkeypatch, tmp_path):
    """An environment that says nothing."""
    for name in ("ROOTSTREAM_DATABASE_URL", "ROOTSTREAM_REDIS_URL", "DATABASE_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


def run(*arguments: str, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(app, list(arguments), input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def as_json(*arguments: str, stdin: str | None = None) -> dict:
    result = run(*arguments, "--json", stdin=stdin)
    assert 0 == result.exit_code, result.output
    found: dict = json.loads(result.stdout)
    return found


def register(username: str = "alice") -> dict:
    return as_json(
        "user",
        "register",
        username,
        f"{username}@example.com",
        "--password-stdin",
        stdin=f"{PASSWORD}\n",
    )


@pytest.mark.usefixtures("configured")
class TestAccounts:
    def test_an_account_is_registered_shown_and_listed(self):
        made = register()
        assert "alice" == made["username"]
        assert made["id"] == as_json("user", "show", "ALICE@example.com")["id"]
        assert ["alice"] == [row["username"] for row in as_json("user", "list")["users"]]

    def test_a_password_from_standard_input_is_never_printed(self):
        result = run(
            *("user", "register", "bob", "bob@example.com", "--password-stdin"),
            stdin=f"{PASSWORD}\n",
        )
        assert 0 == result.exit_code
        assert PASSWORD not in result.output

    def test_without_one_a_password_is_made_and_printed_once(self):
        made = as_json("user", "register", "carol", "carol@example.com")
        assert 16 <= len(made["password"])
        assert "password" not in as_json("user", "show", "carol")

    def test_no_password_on_standard_input_is_a_usage_error(self):
        result = run("user", "register", "dan", "dan@example.com", "--password-stdin", stdin="")
        assert (2, "error: standard input held no password") == (
            result.exit_code,
            result.stderr.strip(),
        )

    def test_a_closed_account_can_be_opened_again(self):
        register()
        assert as_json("user", "deactivate", "alice")["active"] is False
        assert as_json("user", "reactivate", "alice")["active"] is True

    def test_closing_an_account_ends_its_broadcasts_at_once(self, rootstream):
        register()
        made = as_json("stream", "create", "alice", "Speedrun")
        lease = rootstream.streams.start(made["key"], node="ingest-1")
        assert 1 == as_json("user", "deactivate", "alice")["broadcasts_ended"]
        with pytest.raises(StaleLeaseError):
            rootstream.streams.heartbeat(lease)

    def test_a_taken_username_in_any_case_is_one_line_and_exit_1(self):
        register()
        result = run("user", "register", "ALICE", "other@example.com")
        assert 1 == result.exit_code
        assert 1 == len(result.stderr.splitlines())
        assert "ALICE" in result.stderr

    @pytest.mark.parametrize("username", ["x" * 1_000_000, "nul\0byte", "a", "sp ace"])
    def test_an_unusable_username_is_one_short_line_and_exit_2(self, username):
        result = run("user", "register", username, "x@example.com")
        assert 2 == result.exit_code
        assert 1 == len(result.stderr.splitlines())
        assert len(result.stderr) < 600

    def test_expired_tokens_are_deleted_and_valid_ones_kept(self, rootstream):
        register()
        with rootstream.transaction() as work:
            user = work.users.get_by_username("alice")
            # The fixture's clock stands in the past: this token has long expired for the command.
            rootstream.accounts.issue_token(work, user, TokenPurpose.VERIFY_EMAIL)
        assert {"deleted": 1} == as_json("user", "delete-expired")
        assert {"deleted": 0} == as_json("user", "delete-expired")

    def test_an_unknown_account_is_exit_10(self):
        assert 10 == run("user", "show", "nobody").exit_code

    def test_an_error_in_json_is_one_object_with_a_stable_code(self):
        result = run("user", "show", "nobody", "--json")
        assert "storage.not_found" == json.loads(result.stdout)["error"]["code"]


@pytest.mark.usefixtures("configured")
class TestStreams:
    def test_a_stream_is_created_with_a_key_that_is_listed_by_prefix_only(self):
        register()
        made = as_json("stream", "create", "alice", "Speedrun")
        listed = as_json("stream", "keys", str(made["id"]))["keys"]
        assert 1 == len(listed)
        assert made["key"].startswith(listed[0]["prefix"])
        assert made["key"] not in json.dumps(listed)
        assert ["Speedrun"] == [
            row["name"] for row in as_json("stream", "list", "alice")["streams"]
        ]

    def test_a_key_is_issued_and_revoked(self):
        register()
        stream = as_json("stream", "create", "alice", "Speedrun")
        issued = as_json("stream", "issue-key", str(stream["id"]), "--valid-days", "7")
        assert as_json("stream", "revoke-key", str(issued["id"]))["revoked"] is True
        states = {
            row["id"]: row["state"] for row in as_json("stream", "keys", str(stream["id"]))["keys"]
        }
        assert "the stream key was revoked" == states[issued["id"]]

    def test_recordings_whose_time_is_up_are_deleted(self):
        assert {"deleted": 0} == as_json("stream", "delete-expired-recordings")

    def test_who_is_live_is_listed(self, rootstream):
        register()
        stream = as_json("stream", "create", "alice", "Speedrun")
        assert [] == as_json("stream", "live")["live"]
        assert "nothing is live" in run("stream", "live").output
        assert {"entered_grace": 0, "ended": 0} == as_json("stream", "reap")
        assert 10 == run("stream", "keys", str(stream["id"] + 10**9)).exit_code


@pytest.mark.usefixtures("configured")
class TestEvents:
    def test_the_history_of_an_aggregate_and_of_everything_is_shown(self):
        user = register()
        mine = as_json("events", "show", "User", str(user["id"]))["events"]
        assert ["UserRegistered"] == [row["type"] for row in mine]
        assert mine == as_json("events", "list", "--limit", "1")["events"]
        assert "no events" in run("events", "show", "User", "0").output


@pytest.mark.usefixtures("configured")
class TestSchema:
    def test_the_schema_is_current_and_checked(self):
        assert {"current": "002", "head": "002"} == as_json("db", "current")
        assert as_json("db", "check")["fits"] is True

    def test_quiet_says_nothing_on_success(self):
        assert "" == run("db", "upgrade", "--quiet").output

    def test_the_sql_of_an_upgrade_can_be_printed(self):
        assert "CREATE TABLE users" in run("db", "upgrade", "--sql").output

    def test_partitions_are_made_ahead_and_old_ones_dropped(self, rootstream):
        shown = as_json("db", "partitions")["partitions"]
        partitioned = {"viewer_sessions", "usage_logs", "mfa_attempts", "security_events"}
        assert partitioned == {row["table"] for row in shown}
        assert all(row["partitions"] and not row["warnings"] for row in shown)
        with rootstream.database.direct() as connection:
            connection.execute(
                "CREATE TABLE viewer_sessions_p20200101 PARTITION OF viewer_sessions"
                " FOR VALUES FROM ('2020-01-01Z') TO ('2020-01-02Z')"
            )
        assert (
            "dropped viewer_sessions_p20200101"
            in run("db", "partitions", "--keep-days", "30").stderr
        )

    def test_old_attempts_at_second_factors_are_dropped_by_the_month(self, rootstream):
        with rootstream.database.direct() as connection:
            connection.execute(
                "CREATE TABLE mfa_attempts_p202001 PARTITION OF mfa_attempts"
                " FOR VALUES FROM ('2020-01-01Z') TO ('2020-02-01Z')"
            )
        dropped = run("db", "partitions", "--keep-attempts-days", "400").stderr
        assert "dropped mfa_attempts_p202001" in dropped

    def test_going_back_asks_for_yes(self):
        result = run("db", "downgrade", "base")
        assert 2 == result.exit_code
        assert "--yes" in result.stderr

    def test_the_doctor_finds_nothing_wrong(self):
        found = {row["check"]: row["state"] for row in as_json("doctor")["diagnoses"]}
        assert {"ok"} == set(found.values())
        assert {"postgres", "schema", "redis", "clock", "partitions"} <= set(found)

    def test_the_configuration_is_shown_with_sources_and_without_secrets(self, monkeypatch):
        monkeypatch.setenv("ROOTSTREAM_DATABASE_URL", "postgresql://me:hunter22@localhost/x")
        result = run("config", "show")
        assert "ROOTSTREAM_DATABASE_URL" in result.output
        assert "hunter22" not in result.output


class TestWrongSurroundings:
    @pytest.mark.usefixtures("unconfigured")
    def test_checking_a_configuration_without_servers_lists_it_with_the_rest(self, monkeypatch):
        monkeypatch.setenv("ROOTSTREAM_DATABASE__STATEMENT_TIMEOUT", "0")
        result = run("config", "check", "--json")
        assert 78 == result.exit_code
        found = {row["id"]: row for row in json.loads(result.stdout)["findings"]}
        assert "database.url" == found["no-servers"]["setting"]
        assert 1 < len(found)

    @pytest.mark.usefixtures("configured")
    def test_a_sound_configuration_has_nothing_severe(self, monkeypatch):
        assert 78 == run("config", "check").exit_code
        monkeypatch.delenv("ROOTSTREAM_ACCOUNTS__ARGON2_PROFILE")
        assert run("config", "check").exit_code in {0, 3}

    @pytest.mark.usefixtures("configured")
    def test_an_unknown_variable_is_a_finding(self, monkeypatch):
        monkeypatch.setenv("ROOTSTREAM_DATABASE__POOLSIZE", "5")
        result = run("config", "check", "--json")
        found = {row["id"] for row in json.loads(result.stdout)["findings"]}
        assert "unknown-variable" in found

    @pytest.mark.usefixtures("unconfigured")
    def test_no_settings_at_all_names_both_ways_and_exits_78(self):
        result = run("db", "current")
        assert 78 == result.exit_code
        assert 1 == len(result.stderr.splitlines())
        assert "ROOTSTREAM_DATABASE_URL" in result.stderr
        assert "RootStream.embedded" in result.stderr

    @pytest.mark.usefixtures("configured")
    def test_an_unreachable_database_is_exit_75(self, monkeypatch):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        url = f"postgresql://me:hunter22@127.0.0.1:{port}/x"
        monkeypatch.setenv("ROOTSTREAM_DATABASE_URL", url)
        result = run("db", "current")
        assert 75 == result.exit_code
        assert str(port) in result.stderr
        assert "hunter22" not in result.stderr

    @pytest.mark.usefixtures("configured")
    def test_a_missing_schema_is_exit_3_and_names_the_command(
        self, monkeypatch, empty_database_url
    ):
        monkeypatch.setenv("ROOTSTREAM_DATABASE_URL", empty_database_url)
        assert 3 == run("db", "check").exit_code
        result = run("user", "list")
        assert 3 == result.exit_code
        assert "rootstream-db db upgrade" in result.stderr

    @pytest.mark.usefixtures("configured")
    def test_a_schema_from_a_newer_release_is_exit_3(self, monkeypatch, fresh_database_url):
        monkeypatch.setenv("ROOTSTREAM_DATABASE_URL", fresh_database_url)
        with psycopg.connect(fresh_database_url) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '999'")
        for command in (("user", "list"), ("db", "upgrade"), ("db", "check")):
            result = run(*command)
            assert 3 == result.exit_code
            assert "newer release" in result.output

    @pytest.mark.usefixtures("configured")
    def test_the_doctor_reports_a_dead_redis(self, monkeypatch):
        monkeypatch.setenv("ROOTSTREAM_REDIS_URL", "redis://127.0.0.1:1/0")
        assert "warning: redis:" in run("doctor", "--quiet").stderr
        result = run("doctor", "--json")
        assert 75 == result.exit_code
        states = {row["check"]: row["state"] for row in json.loads(result.stdout)["diagnoses"]}
        assert "error" == states["redis"]
        assert "ok" == states["postgres"]

    @pytest.mark.usefixtures("unconfigured")
    def test_an_unknown_option_is_a_usage_error(self):
        assert 2 == run("db", "current", "--nonsense").exit_code
