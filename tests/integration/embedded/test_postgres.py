"""An embedded PostgreSQL is a real one, whichever programs it is made of."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy

from rootstream_db.embedded import EmbeddedPostgres, PostgresBinaries, all_postgres
from rootstream_db.embedded import postgres as postgres_module
from rootstream_db.embedded.process import Deadline
from rootstream_db.errors import EmbeddedServerError

Value = Callable[[str, str], Any]

FOUND = all_postgres()
each_postgres = pytest.mark.parametrize(
    "binaries", FOUND, ids=[f"{each.source}-{each.version}" for each in FOUND]
)


@each_postgres
def test_data_is_found_again_by_the_next_start(
    folder: Path, value: Value, binaries: PostgresBinaries
) -> None:
    with EmbeddedPostgres(folder, bindir=binaries.bindir) as server:
        value(server.url(), "CREATE TABLE kept AS SELECT 'ünïcode' AS word")
    with EmbeddedPostgres(folder, bindir=binaries.bindir) as server:
        assert "ünïcode" == value(server.url(), "SELECT word FROM kept")


@each_postgres
def test_text_is_utf_8_and_knows_letters_beyond_ascii(
    folder: Path, value: Value, binaries: PostgresBinaries
) -> None:
    with EmbeddedPostgres(folder, bindir=binaries.bindir, durable=False) as server:
        assert "UTF8" == value(server.url(), "SHOW server_encoding")
        assert "É" == value(server.url(), "SELECT upper('é')")
        assert value(server.url(), "SELECT 'Z' < 'a'"), "text sorts by code point"
        assert "on" == value(server.url(), "SHOW data_checksums")


@each_postgres
def test_a_crashed_server_recovers_what_was_committed(
    folder: Path, value: Value, binaries: PostgresBinaries
) -> None:
    with EmbeddedPostgres(folder, bindir=binaries.bindir) as server:
        value(server.url(), "CREATE TABLE kept AS SELECT 7 AS number")
        running = server._running()
        assert running is not None
        os.kill(running.pid, signal.SIGKILL)
        assert Deadline(10).wait(lambda: not server.is_running())
        server.start()
        assert 7 == value(server.url(), "SELECT number FROM kept")


def test_a_crash_with_busy_sessions_is_recovered_from(copied: Path, value: Value) -> None:
    """Sessions outlive a killed server for a while, and must end before the next one starts."""
    with EmbeddedPostgres(copied) as server:
        value(server.url(), "CREATE TABLE kept AS SELECT 7 AS number")
        busy = psycopg.pq.PGconn.connect(server.url().encode())
        busy.exec_(b"SET statement_timeout = '500ms'")
        busy.send_query(b"SELECT count(*) FROM generate_series(1, 10000000000)")
        active = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%(1, 10000000000)'"
        assert Deadline(10).wait(lambda: value(server.url(), active) == 1)
        running = server._running()
        assert running is not None
        os.kill(running.pid, signal.SIGKILL)
        assert Deadline(10).wait(lambda: not server.is_running())
        server.start()
        assert 7 == value(server.url(), "SELECT number FROM kept")
        busy.finish()


def test_the_url_serves_sqlalchemy_and_the_command_line_tools(copied: Path) -> None:
    with EmbeddedPostgres(copied, durable=False) as server:
        engine = sqlalchemy.create_engine(server.url())
        with engine.connect() as connection:
            assert 1 == connection.scalar(sqlalchemy.text("SELECT 1"))
            assert "psycopg" == connection.dialect.driver
        engine.dispose()
        psql = [str(server.binaries.tool("psql")), "-XAtc", "SELECT current_database()"]
        assert "postgres\n" == subprocess.check_output([*psql, server.url()], text=True)


@pytest.mark.parametrize("name", ["plain", "a b", "ünïcode", 'quo"te', "sla/sh?&%"])
def test_databases_of_any_name_are_made_once(copied: Path, value: Value, name: str) -> None:
    with EmbeddedPostgres(copied, durable=False) as server:
        url = server.create_database(name)
        value(url, "CREATE TABLE kept ()")
        assert url == server.create_database(name) == server.url(name)
        assert name == value(url, "SELECT current_database()")
        assert "kept" == value(url, "SELECT relname FROM pg_class WHERE relname = 'kept'")


def test_a_database_is_made_once_by_many_at_once(copied: Path, value: Value) -> None:
    with EmbeddedPostgres(copied, durable=False) as server, ThreadPoolExecutor(8) as threads:
        urls = set(threads.map(server.create_database, ["same"] * 8))
        assert {server.url("same")} == urls
        assert "same" == value(server.url("same"), "SELECT current_database()")


def test_defaults_suit_an_application(copied: Path, value: Value) -> None:
    with EmbeddedPostgres(copied) as server:
        assert "200" == value(server.url(), "SHOW max_connections")
        assert "128MB" == value(server.url(), "SHOW shared_buffers")
        assert "on" == value(server.url(), "SHOW fsync")
        assert "" == value(server.url(), "SHOW listen_addresses")


def test_settings_of_the_caller_win(copied: Path, value: Value) -> None:
    settings = {"max_connections": "17", "wal_level": "logical"}
    with EmbeddedPostgres(copied, durable=False, settings=settings) as server:
        assert "17" == value(server.url(), "SHOW max_connections")
        assert "logical" == value(server.url(), "SHOW wal_level")
        assert "off" == value(server.url(), "SHOW fsync")


def test_shared_memory_that_cannot_be_used_is_done_without(
    copied: Path, value: Value, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_module, "_SHARED_MEMORY", copied / "missing")
    with EmbeddedPostgres(copied, durable=False) as server:
        assert "mmap" == value(server.url(), "SHOW dynamic_shared_memory_type")


def test_data_of_another_major_version_is_refused(folder: Path) -> None:
    majors = {each.major: each for each in FOUND}
    if len(majors) == 1:
        pytest.skip("only one major version of PostgreSQL is installed")
    old, new = majors[min(majors)], majors[max(majors)]
    with EmbeddedPostgres(folder, bindir=old.bindir, durable=False):
        pass
    with pytest.raises(EmbeddedServerError) as refusal:
        EmbeddedPostgres(folder, bindir=new.bindir).start()
    assert f"holds data of PostgreSQL {old.major}" in str(refusal.value)
    assert new.version in str(refusal.value)
    with EmbeddedPostgres(folder, bindir=old.bindir, durable=False) as server:
        assert server.version == old.version


def test_a_durable_user_does_not_adopt_a_server_that_is_not(copied: Path) -> None:
    with EmbeddedPostgres(copied, durable=False) as running:
        with pytest.raises(EmbeddedServerError, match="not durably"):
            EmbeddedPostgres(copied).start()
        assert running.is_running()
    assert not running.is_running()


def test_a_start_killed_while_it_made_the_data_is_made_good_by_the_next(
    folder: Path, value: Value
) -> None:
    """The half-made data has another name, so nobody takes it for data."""
    half_made = folder / "data.init-abandoned"
    half_made.mkdir()
    (half_made / "PG_VERSION").write_text("18\n")
    (folder / ".password").write_text("abandoned")
    with EmbeddedPostgres(folder, durable=False) as server:
        assert 1 == value(server.url(), "SELECT 1")
    assert not half_made.exists()
    assert not (folder / ".password").exists()


def test_a_crashed_servers_number_in_use_by_another_program_is_no_obstacle(
    copied: Path, value: Value
) -> None:
    """As after every restart of a container, where programs get the same numbers again."""
    account = copied.joinpath("data").stat()
    with EmbeddedPostgres(copied) as server:
        running = server._running()
        assert running is not None
        lines = (copied / "data" / "postmaster.pid").read_text("utf-8").splitlines()
    same_account: dict[str, Any] = {"user": account.st_uid} if os.geteuid() == 0 else {}
    with subprocess.Popen(["/bin/sleep", "300"], **same_account) as other:
        stale = copied / "data" / "postmaster.pid"
        stale.write_text("\n".join([str(other.pid), *lines[1:], ""]))
        os.chown(stale, account.st_uid, account.st_gid)
        with EmbeddedPostgres(copied) as server:
            assert 1 == value(server.url(), "SELECT 1")
        assert other.poll() is None
        other.kill()


def test_a_password_that_was_deleted_is_replaced(copied: Path, value: Value) -> None:
    (copied / "secret").unlink()
    with EmbeddedPostgres(copied, durable=False, tcp=True) as server:
        assert 1 == value(server.url(), "SELECT 1")
