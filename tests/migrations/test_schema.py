"""The migrations build what the models describe, from both directions, whoever runs them."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from rootstream_db import schema
from rootstream_db.errors import (
    DatabaseUnavailableError,
    SchemaError,
    StorageError,
    StorageTimeoutError,
)
from rootstream_db.models import Base

SPAWN = multiprocessing.get_context("spawn")


def tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        ).fetchall()
    return {name for (name,) in rows}


def functions(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        ).fetchall()
    return {name for (name,) in rows}


def differences(url: str) -> list[object]:
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        options = {"include_name": schema.is_compared, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, Base.metadata))


def test_an_upgrade_builds_every_table_of_the_models(empty_database_url):
    assert schema.head() == schema.upgrade(empty_database_url)
    assert set(Base.metadata.tables) <= tables(empty_database_url)


def test_models_and_migrations_do_not_differ(fresh_database_url):
    assert [] == differences(fresh_database_url)


def test_down_to_base_leaves_nothing_and_up_again_works(fresh_database_url):
    schema.downgrade(fresh_database_url, "base")
    assert {"alembic_version"} == tables(fresh_database_url)
    assert set() == functions(fresh_database_url)
    assert schema.head() == schema.upgrade(fresh_database_url)
    assert [] == differences(fresh_database_url)


def test_going_back_is_refused_while_events_are_in_files(fresh_database_url):
    with psycopg.connect(fresh_database_url) as connection:
        connection.execute("SET LOCAL rootstream.maintenance = 'on'")
        connection.execute(
            """
            INSERT INTO event_archive
            SELECT 0, 1, 1, 'file', 1, chain, chain, chain, epoch, now(), now() FROM event_log_head
            """
        )
    with pytest.raises(StorageError, match="archived in files"):
        schema.downgrade(fresh_database_url, "005")
    assert "006" == schema.current(fresh_database_url)


def test_upgrading_twice_changes_nothing(fresh_database_url):
    before = tables(fresh_database_url)
    assert schema.head() == schema.upgrade(fresh_database_url)
    assert before == tables(fresh_database_url)


def test_concurrent_upgraders_wait_for_each_other(empty_database_url):
    with ThreadPoolExecutor(2) as threads, ProcessPoolExecutor(2, SPAWN) as processes:
        running = [
            pool.submit(schema.upgrade, empty_database_url)
            for pool in (processes, threads, processes, threads)
        ]
        reached = [upgrade.result(timeout=60) for upgrade in running]
    assert [schema.head()] * 4 == reached


def test_the_offline_sql_builds_the_same_schema(empty_database_url):
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(schema.offline_sql().encode())
    assert [] == differences(empty_database_url)
    assert schema.head() == schema.check(empty_database_url)


def test_a_database_without_schema_is_told_apart(empty_database_url):
    assert schema.current(empty_database_url) is None
    with pytest.raises(SchemaError, match=r"no schema yet.*db upgrade") as caught:
        schema.check(empty_database_url)
    assert (None, schema.head()) == (caught.value.current, caught.value.head)


def test_a_schema_ahead_of_this_release_is_refused_and_left_alone(fresh_database_url):
    with psycopg.connect(fresh_database_url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '999_future'")
    with pytest.raises(SchemaError, match=r"999_future.*newer"):
        schema.check(fresh_database_url)
    with pytest.raises(SchemaError, match=r"999_future.*newer"):
        schema.upgrade(fresh_database_url)


def test_a_schema_behind_names_the_command(fresh_database_url, monkeypatch):
    monkeypatch.setattr(schema, "head", lambda: "999")
    with pytest.raises(SchemaError, match="behind 999: run `rootstream-db db upgrade`"):
        schema.check(fresh_database_url)


def test_a_migration_gives_way_to_a_table_lock(fresh_database_url, monkeypatch):
    monkeypatch.setattr(schema, "LOCK_TIMEOUT_MS", 100)
    with psycopg.connect(fresh_database_url) as blocker:
        blocker.execute("LOCK TABLE users IN ACCESS SHARE MODE")
        with pytest.raises(StorageTimeoutError):
            schema.downgrade(fresh_database_url, "base")
    assert schema.head() == schema.current(fresh_database_url)


def test_an_upgrader_that_waits_too_long_says_so(empty_database_url, monkeypatch):
    monkeypatch.setattr(schema, "UPGRADER_WAIT", 0.1)
    with psycopg.connect(empty_database_url) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [schema.MIGRATION_LOCK])
        with pytest.raises(StorageTimeoutError, match="another upgrader"):
            schema.upgrade(empty_database_url)


def test_an_unreachable_server_is_named_without_the_password():
    with pytest.raises(DatabaseUnavailableError) as caught:
        schema.current("postgresql://someone:hunter22@127.0.0.1:1/nothing")
    assert "hunter22" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)
