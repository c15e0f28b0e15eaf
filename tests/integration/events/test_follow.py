"""Following the log: everything once, soon, across outages, until told to stop."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from rootstream_db.cache import EventBus
from rootstream_db.database import Database
from rootstream_db.errors import (
    AppendOnlyError,
    DatabaseUnavailableError,
    LogDivergedError,
    RootStreamError,
    ValidationError,
)
from rootstream_db.services.event_archive import ArchiveReader
from rootstream_db.services.event_store import Cursor, EventStore, Wakeup
from rootstream_db.services.event_store import following as following_module
from rootstream_db.testing import settings_for
from tests.fixtures.proxy import Proxy

DEADLINE = 10.0


def append(database: Database, events: EventStore, *types: str) -> None:
    with database.transaction() as work:
        for event_type in types:
            events.append(work, "Stream", "7", event_type, {})


def positions(found) -> list[int]:
    return [event.position for event in found]


class Follower(threading.Thread):
    """Collects what ``follow`` yields, and when."""

    def __init__(self, events: EventStore, **options) -> None:
        super().__init__(daemon=True)
        self.stop = threading.Event()
        self.positions: list[int] = []
        self.times: list[float] = []
        self.error: Exception | None = None
        self._found = events.follow(stop=self.stop, **options)

    def run(self) -> None:
        try:
            for event in self._found:
                self.times.append(time.monotonic())
                self.positions.append(event.position)
        except RootStreamError as error:
            self.error = error

    def until(self, count: int) -> list[int]:
        deadline = time.monotonic() + DEADLINE
        while len(self.positions) < count and self.is_alive() and time.monotonic() < deadline:
            self.join(0.005)
        return self.positions

    def end(self) -> None:
        self.stop.set()
        self.join(DEADLINE)
        assert not self.is_alive()


@pytest.fixture
def proxied(clean_database_url: str) -> Iterator[tuple[Database, Proxy]]:
    """A database behind a proxy that can cut the connection."""
    at = conninfo_to_dict(clean_database_url)
    with Proxy(socket.AF_UNIX, f"{at['host']}/.s.PGSQL.{at['port']}") as proxy:
        url = f"postgresql://{at['user']}@127.0.0.1:{proxy.port}/{at['dbname']}"
        with Database(settings_for(url, "redis://nowhere.invalid").database) as database:
            yield database, proxy


def test_following_yields_what_is_there_and_what_comes(committed_database):
    events = EventStore(committed_database)
    append(committed_database, events, "A", "B", "C")
    follower = Follower(events, after_position=1, batch=1)
    follower.start()
    assert [2, 3] == follower.until(2)
    append(committed_database, events, "D", "E")
    assert [2, 3, 4, 5] == follower.until(4)
    follower.end()
    assert follower.error is None


def test_idle_ends_the_iteration_once_nothing_came_for_so_long(committed_database):
    events = EventStore(committed_database)
    append(committed_database, events, "A", "B", "A")
    assert [1, 3] == positions(events.follow(types={"A"}, idle=0))
    assert [] == positions(events.follow(after_position=3, idle=0.06))


def test_stop_ends_the_iteration_in_the_middle_of_a_page(committed_database):
    events = EventStore(committed_database)
    append(committed_database, events, "A", "B", "C")
    stop = threading.Event()
    found = events.follow(stop=stop)
    assert 1 == next(found).position
    stop.set()
    assert [] == list(found)


def test_events_of_other_types_are_passed_by_once(committed_database, monkeypatch):
    """Waiting for a rare type must not read the whole log again at every look."""
    events = EventStore(committed_database)
    append(committed_database, events, *("Common",) * 50, "Rare")
    tail = following_module.Tail(committed_database, ArchiveReader(), 0, types={"Rare"}, batch=10)
    assert [51] == positions(tail.page())
    append(committed_database, events, *("Common",) * 50)
    assert () == tuple(tail.page())
    asked = []
    monkeypatch.setattr(
        "rootstream_db.repositories.events.EventRepository.list_all",
        lambda *_, **arguments: asked.append(arguments),
    )
    assert () == tail.page()
    assert [] == asked


def test_a_follower_is_woken_long_before_its_next_look(committed_database, redis_settings):
    with EventBus(redis_settings) as here, EventBus(redis_settings) as there:
        follower = Follower(EventStore(committed_database, wakeup=Wakeup(here)))
        follower.start()
        writer = EventStore(committed_database, wakeup=Wakeup(there))
        append(committed_database, writer, "First")
        assert [1] == follower.until(1)
        follower.join(0.8)  # until the follower looks once a second only
        appended = time.monotonic()
        append(committed_database, writer, "Second")
        assert [1, 2] == follower.until(2)
        assert follower.times[-1] - appended < 0.25
        follower.end()


def test_a_rolled_back_unit_announces_nothing(committed_database, bus, monkeypatch):
    monkeypatch.setattr("rootstream_db.services.event_store.wakeup.INTERVAL", DEADLINE)
    events = EventStore(committed_database, wakeup=Wakeup(bus))
    with pytest.raises(ZeroDivisionError), committed_database.transaction() as work:
        events.append(work, "Stream", "7", "Never", {})
        events.flush(work)
        raise ZeroDivisionError
    assert 0 == bus.stats().published
    append(committed_database, events, *"ABC")
    append(committed_database, events, *"DEF")
    assert 1 == bus.stats().published, "one word for many events"


def test_without_redis_followers_poll_and_appends_succeed(committed_database, redis_settings):
    nowhere = redis_settings.model_copy(
        update={"url": SecretStr("redis://127.0.0.1:1/0"), "retries": 0}
    )
    with EventBus(nowhere) as bus:
        events = EventStore(committed_database, wakeup=Wakeup(bus))
        append(committed_database, events, "A")
        assert [1] == positions(events.follow(idle=0.1))
    assert 0 == committed_database.after_commit_failures


def test_a_follower_outlives_cut_connections(proxied, caplog):
    database, proxy = proxied
    events = EventStore(database)
    append(database, events, "A", "B")
    follower = Follower(events, batch=1)
    follower.start()
    assert [1, 2] == follower.until(2)
    cuts = []

    def cut(data: bytes) -> bool:
        cuts.append(data)
        return b"event_log" in data and len(cuts) < 4

    proxy.cut_before = cut
    deadline = time.monotonic() + DEADLINE
    while len(cuts) < 4 and time.monotonic() < deadline:
        follower.join(0.01)
    proxy.cut_before = None
    append(database, events, "C", "D")
    assert [1, 2, 3, 4] == follower.until(4)
    follower.end()
    assert "waits for the database" in caplog.text


def test_an_outage_longer_than_idle_is_an_error(proxied):
    database, proxy = proxied
    proxy.cut_before = lambda data: b"event_log" in data
    with pytest.raises(DatabaseUnavailableError):
        list(EventStore(database).follow(idle=0))


def test_an_idle_writer_in_another_database_holds_no_follower_up(
    committed_database, empty_database_url
):
    """A watermark of transaction ids would: they are counted for all databases of a server."""
    events = EventStore(committed_database)
    with psycopg.connect(empty_database_url) as other:
        other.execute("CREATE TABLE written (n int)")
        append(committed_database, events, "A", "B")
        assert [1, 2] == positions(events.follow(idle=0))
        other.rollback()


def test_a_cursor_of_an_earlier_epoch_is_refused(committed_database):
    events = EventStore(committed_database)
    append(committed_database, events, "A", "B")
    cursor = events.cursor(1)
    assert [2] == positions(events.read_all(after_position=cursor))
    assert [2] == positions(events.follow(after_position=cursor, idle=0))
    with committed_database.transaction() as work:
        epoch = events.begin_epoch(work)
    assert Cursor(epoch, 2) == events.cursor()
    for read in (events.read_all, events.follow):
        with pytest.raises(LogDivergedError, match="restored to an earlier time") as caught:
            list(read(after_position=cursor))
        assert (1, cursor.epoch) == (
            caught.value.context["position"],
            caught.value.context["epoch"],
        )


def test_a_cursor_ahead_of_the_log_is_refused(committed_database):
    events = EventStore(committed_database)
    append(committed_database, events, "A")
    ahead = events.cursor(2)
    with pytest.raises(LogDivergedError, match="ends at position 1"):
        events.read_all(after_position=ahead)
    with pytest.raises(LogDivergedError, match="ends at position 1"):
        list(events.follow(after_position=2))


def test_a_follower_notices_a_restore_while_it_waits(committed_database):
    events = EventStore(committed_database)
    append(committed_database, events, "A")
    follower = Follower(events)
    follower.start()
    follower.until(1)
    with committed_database.transaction() as work:
        events.begin_epoch(work)
    follower.join(DEADLINE)
    assert isinstance(follower.error, LogDivergedError)


def test_a_new_epoch_ends_the_maintenance_it_needed(committed_database):
    events = EventStore(committed_database)
    append(committed_database, events, "A")
    with pytest.raises(AppendOnlyError), committed_database.transaction() as work:
        events.begin_epoch(work)
        work.session.connection().exec_driver_sql("DELETE FROM event_log")


def test_a_page_has_at_least_one_event(database):
    with pytest.raises(ValidationError, match="batch is at least 1"):
        EventStore(database).follow(batch=0)
