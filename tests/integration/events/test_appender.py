"""The appender: everything queued is written once, or counted as lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from rootstream_db.audit import acting
from rootstream_db.database import Database
from rootstream_db.errors import (
    ConflictError,
    RateLimitedError,
    StorageError,
    StorageTimeoutError,
    ValidationError,
)
from rootstream_db.services.event_store import AppenderStats, EventStore, NewEvent
from rootstream_db.testing import settings_for
from tests.fixtures.proxy import Proxy

DEADLINE = 20.0


def seen(number: int, **over) -> NewEvent:
    return NewEvent(event_type="Seen", data={"n": number}, **over)


def numbers(events: EventStore) -> list[int]:
    return [event.data["n"] for event in events.read_all()]


def stats(appended: int, written: int, lost: int = 0, waiting: int = 0) -> AppenderStats:
    return AppenderStats(appended=appended, written=written, lost=lost, waiting=waiting)


@pytest.fixture
def events(committed_database: Database) -> EventStore:
    return EventStore(committed_database)


@contextmanager
def stuck(url: str) -> Iterator[None]:
    """Hold the end of the log, so that no append gets on."""
    with psycopg.connect(url) as connection:
        connection.execute("SELECT FROM event_log_head FOR UPDATE")
        yield
        connection.rollback()


def test_events_are_written_in_order_and_many_at_a_time(events, committed_database):
    with events.appender() as appender:
        pending = [appender.append("Stream", str(n % 3), seen(n)) for n in range(2500)]
        assert stats(2500, 2500) == appender.flush(DEADLINE)
    assert list(range(2500)) == numbers(events)
    assert list(range(1, 2501)) == [event.position for event in pending]
    with committed_database.read() as work:
        count = "SELECT count(*) FROM event_commit"
        assert work.session.connection().exec_driver_sql(count).scalar_one() < 100


def test_threads_share_an_appender(events):
    with events.appender(capacity=50, group=20) as appender:

        def say(thread: int) -> None:
            for number in range(200):
                appender.append("Thread", str(thread), seen(number))

        threads = [threading.Thread(target=say, args=[number]) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
    for number in range(4):
        told = [event.data["n"] for event in events.read("Thread", str(number))]
        assert list(range(200)) == told


def test_closing_writes_what_waits(events):
    appender = events.appender(linger=60)
    for number in range(5):
        appender.append("Stream", "7", seen(number))
    assert stats(5, 5) == appender.close(DEADLINE)
    assert [0, 1, 2, 3, 4] == numbers(events)
    assert stats(5, 5) == appender.close()
    with pytest.raises(StorageError, match="closed"):
        appender.append("Stream", "7", seen(5))


def test_an_unused_appender_closes(events):
    assert stats(0, 0) == events.appender().close()


def test_events_carry_the_context_in_which_they_were_appended(events):
    with events.appender() as appender, acting(user_id=5, ip_address="192.0.2.1"):
        appender.append("Stream", "7", seen(1))
    (event,) = events.audit_trail(5)
    assert {"audit": {"ip_address": "192.0.2.1"}} == event.metadata


def test_a_full_queue_refuses_or_blocks(events, clean_database_url):
    with (
        events.appender(capacity=2, group=1, block=False) as refusing,
        events.appender(capacity=2, group=1) as blocking,
    ):
        with stuck(clean_database_url):
            # One may be with the database already, two wait.
            with pytest.raises(RateLimitedError, match="2 events wait"):
                for number in range(4):
                    refusing.append("Stream", "7", seen(number))
            with pytest.raises(RateLimitedError):
                for number in range(4):
                    blocking.append("Stream", "8", seen(number), timeout=0.05)
            with pytest.raises(StorageTimeoutError, match="still wait"):
                blocking.flush(0.01)
        blocking.append("Stream", "8", seen(9), timeout=DEADLINE)
        accepted = refusing.flush(DEADLINE).written + blocking.flush(DEADLINE).written
    assert accepted == len(numbers(events))


def test_a_refused_event_is_lost_alone(events, committed_database, caplog):
    taken = uuid.uuid4()
    with committed_database.transaction() as work:
        events.append(work, "Stream", "1", "Seen", {"n": -1}, event_id=taken)
    lost = []
    with events.appender(linger=60, on_loss=lambda *loss: lost.append(loss)) as appender:
        for number in range(10):
            event_id = taken if number == 6 else None
            appender.append("Stream", "7", seen(number, event_id=event_id))
        assert stats(10, 9, lost=1) == appender.flush(DEADLINE)
    assert [-1, 0, 1, 2, 3, 4, 5, 7, 8, 9] == numbers(events)
    ((event, reason),) = lost
    assert taken == event.event_id
    assert isinstance(reason, ConflictError)
    assert f"1 events are lost, the first is Seen {taken}" in caplog.text


def test_an_event_said_twice_is_written_once(events):
    with events.appender(linger=60) as appender:
        same = seen(1, event_id=uuid.uuid4())
        said = [appender.append("Stream", "7", same) for _ in range(2)]
        assert stats(2, 2) == appender.flush(DEADLINE)
    assert [False, True] == [event.duplicate for event in said]
    assert [1] == numbers(events)


def test_a_failing_on_loss_does_not_stop_the_appender(events):
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    taken = uuid.uuid4()
    with events.appender(on_loss=fail) as appender:
        for number in range(3):
            appender.append("Stream", "7", seen(number, event_id=taken if number < 2 else None))
        assert stats(3, 2, lost=1) == appender.flush(DEADLINE)


@pytest.mark.parametrize("when", ["cut_before", "cut_after"])
def test_a_lost_connection_loses_and_doubles_nothing(clean_database_url, when):
    at = conninfo_to_dict(clean_database_url)
    with Proxy(socket.AF_UNIX, f"{at['host']}/.s.PGSQL.{at['port']}") as proxy:
        url = f"postgresql://{at['user']}@127.0.0.1:{proxy.port}/{at['dbname']}"
        settings = settings_for(url, "redis://nowhere.invalid").database
        with Database(settings.model_copy(update={"run_attempts": 1})) as database:
            events, cuts = EventStore(database), []

            def cut(data: bytes) -> bool:
                # The statement is the whole transaction: what comes after it is no COMMIT.
                cuts.append(b'"n":' in data)
                return cuts[-1] and sum(cuts) <= 2

            setattr(proxy, when, cut)
            with events.appender(group=10) as appender:
                for number in range(30):
                    appender.append("Stream", "7", seen(number))
                assert stats(30, 30) == appender.flush(DEADLINE)
            assert sum(cuts) > 2
            assert list(range(30)) == numbers(events)


def test_what_cannot_be_written_in_time_is_counted_as_lost(events, clean_database_url, caplog):
    appender = events.appender(group=1)
    with stuck(clean_database_url):
        for number in range(5):
            appender.append("Stream", "7", seen(number))
        left = appender.close(0.2)
        assert (5, 0) == (left.appended, left.written)
        assert 5 == left.lost + left.waiting
        assert left.lost >= 4
    # What was on its way arrives now or not; either way it is counted in the end.
    final = appender.close(DEADLINE)
    assert (5, 0) == (final.written + final.lost, final.waiting)
    assert final.written == len(numbers(events))
    assert "events are lost" in caplog.text


def test_a_forked_child_does_not_write_what_its_parent_queued(events):
    appender = events.appender()
    appender.append("Stream", "7", seen(1))
    appender.flush(DEADLINE)
    appender.after_fork()
    assert stats(0, 0) == appender.stats()
    appender.append("Stream", "7", seen(2))
    assert stats(1, 1) == appender.close()
    assert [1, 2] == numbers(events)


def test_sizes_are_at_least_one(events):
    with pytest.raises(ValidationError):
        events.appender(group=0)


PROGRAM = """
import itertools, sys
from rootstream_db.database import Database
from rootstream_db.services.event_store import EventStore, NewEvent
from rootstream_db.testing import settings_for

with Database(settings_for(sys.argv[1], "redis://nowhere.invalid").database) as database:
    appender = EventStore(database).appender(group=50)
    for number in itertools.count():
        appender.append("Stream", "7", NewEvent(event_type="Seen", data={"n": number}))
        if number % 100 == 99:
            print(appender.flush().written, flush=True)
"""


def test_a_killed_process_loses_only_what_it_did_not_flush(events, clean_database_url):
    program = [sys.executable, "-c", PROGRAM, clean_database_url]
    flushed = 0
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            flushed = int(line)
            if flushed >= 500:
                os.kill(process.pid, signal.SIGKILL)
                flushed = max([flushed, *map(int, process.stdout.read().split())])
    told = numbers(events)
    assert flushed <= len(told)
    assert list(range(len(told))) == told
