"""Read-only transactions go to a standby that is fresh enough, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from rootstream_db.database import Database, replicas
from rootstream_db.embedded import EmbeddedPostgres
from rootstream_db.errors import StorageError
from rootstream_db.settings import DatabaseSettings
from rootstream_db.unit_of_work import UnitOfWork

Until = Callable[[Callable[[], bool]], None]


def on_standby(work: UnitOfWork) -> bool:
    return bool(work.session.execute(text("SELECT pg_is_in_recovery()")).scalar_one())


def reads_from_standby(db: Database) -> bool:
    return db.run(on_standby, read_only=True)


def execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the lag more often than once a second."""
    monkeypatch.setattr(replicas, "_CHECK_EVERY", 0.02)


@pytest.fixture
def open_with(tcp_server: EmbeddedPostgres) -> Iterator[Callable[..., Database]]:
    """A function that opens databases on the primary with the given replicas."""
    made: list[Database] = []

    def open_database(*urls: str, **over: object) -> Database:
        settings = DatabaseSettings(
            url=SecretStr(tcp_server.url()),
            replica_urls=tuple(SecretStr(url) for url in urls),
            **over,  # type: ignore[arg-type]  # the test's own
        )
        made.append(Database(settings))
        return made[-1]

    yield open_database
    for database in made:
        database.close()


@pytest.fixture
def db(open_with: Callable[..., Database], standby: str) -> Database:
    """A primary with its one standby."""
    return open_with(standby, max_replica_lag=0.2)


def test_a_read_only_transaction_goes_to_the_standby(db: Database, until: Until):
    until(lambda: reads_from_standby(db))
    assert not db.run(on_standby)
    with db.read() as work:
        assert not on_standby(work)


def test_writing_there_is_the_callers_mistake(db: Database, until: Until):
    until(lambda: reads_from_standby(db))
    with pytest.raises(StorageError, match="read-only") as caught:
        db.run(lambda w: w.session.execute(text("CREATE TABLE x (id int)")), read_only=True)
    assert not caught.value.retryable
    assert reads_from_standby(db)


def test_a_read_only_unit_inside_another_stays_with_the_primary(db: Database, until: Until):
    until(lambda: reads_from_standby(db))
    with db.transaction(), db.transaction(read_only=True) as inner:
        assert not on_standby(inner)


def test_a_standby_that_is_behind_serves_no_reads_until_it_caught_up(
    db: Database, tcp_server: EmbeddedPostgres, standby: str, until: Until, often: None
):
    until(lambda: reads_from_standby(db))
    execute(standby, "SELECT pg_wal_replay_pause()")
    try:
        execute(tcp_server.url(), "CREATE TABLE IF NOT EXISTS traffic (id int)")
        execute(tcp_server.url(), "INSERT INTO traffic VALUES (1)")
        until(lambda: not reads_from_standby(db))
    finally:
        execute(standby, "SELECT pg_wal_replay_resume()")
    until(lambda: reads_from_standby(db))


def test_a_primary_stands_in_for_a_standby_that_is_away(
    open_with: Callable[..., Database], standby: str, until: Until
):
    db = open_with("postgresql://nobody@127.0.0.1:1/x", max_replica_lag=5)
    assert not reads_from_standby(db)
    assert not reads_from_standby(db)
    both = open_with("postgresql://nobody@127.0.0.1:1/x", standby)
    until(lambda: reads_from_standby(both))


def test_the_lag_is_asked_for_at_most_once_a_second(
    db: Database, standby: str, until: Until, monkeypatch: pytest.MonkeyPatch
):
    asked: list[int] = []
    original = replicas.Replica._is_fresh

    def counted(*arguments: object) -> bool:
        asked.append(1)
        return original(*arguments)  # type: ignore[arg-type]  # the test's own

    monkeypatch.setattr(replicas.Replica, "_is_fresh", counted)
    monkeypatch.setattr(replicas, "_CHECK_EVERY", 3600.0)
    until(lambda: reads_from_standby(db))
    for _ in range(20):
        assert reads_from_standby(db)
    assert 1 == len(asked)


def test_while_one_asks_the_others_go_by_the_last_answer(
    db: Database, until: Until, often: None, monkeypatch: pytest.MonkeyPatch
):
    until(lambda: reads_from_standby(db))
    (replica,) = db._routes.replicas._members
    until(replica._claim_check)  # somebody asks, and hangs
    monkeypatch.setattr(replica, "_fresh_until", replica._monotonic() + 3600)
    assert reads_from_standby(db)
    monkeypatch.setattr(replica, "_fresh_until", 0.0)
    assert not reads_from_standby(db)
    replica._release_check()
    until(lambda: reads_from_standby(db))


def test_several_standbys_take_turns(
    open_with: Callable[..., Database], standby: str, until: Until
):
    urls = [f"{standby}&application_name=replica{number}" for number in (1, 2)]
    db = open_with(*urls)
    name = text("SHOW application_name")

    def served_by() -> str:
        return db.run(lambda w: str(w.session.execute(name).scalar_one()), read_only=True)

    until(lambda: {"replica1", "replica2"} == {served_by() for _ in range(4)})


def test_closing_closes_the_standbys_connections_too(
    open_with: Callable[..., Database], standby: str, until: Until
):
    db = open_with(f"{standby}&application_name=to_be_closed")
    until(lambda: reads_from_standby(db))
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'to_be_closed'"

    def connections() -> int:
        with psycopg.connect(standby, autocommit=True) as connection:
            row = connection.execute(count).fetchone()
            assert row is not None
            return int(row[0])

    assert 1 == connections()
    db.close()
    until(lambda: connections() == 0)
