"""Many writers, readers that follow them, and connections that die: nothing lost, nothing twice."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
import sqlalchemy as sa
from psycopg.conninfo import conninfo_to_dict

from rootstream_db.database import Database
from rootstream_db.errors import DatabaseUnavailableError, VersionConflictError
from rootstream_db.services.event_store import EventStore, PendingEvent
from rootstream_db.testing import settings_for
from tests.fixtures.proxy import Proxy

WRITERS = 6
UNITS = 100
DEADLINE = 60.0

Result = TypeVar("Result")


class Tail(threading.Thread):
    """A reader that continues after the last position it saw until it is told to stop."""

    def __init__(self, events: EventStore) -> None:
        super().__init__(daemon=True)
        self.positions: list[int] = []
        self.ids: list[uuid.UUID] = []
        self.finish = threading.Event()
        self._events = events

    def run(self) -> None:
        finishing = False
        while not finishing:
            finishing = self.finish.is_set()
            last = self.positions[-1] if self.positions else 0
            for event in self._events.read_all(after_position=last, batch=7):
                self.positions.append(event.position)
                self.ids.append(event.event_id)


def in_parallel(work: Callable[[int], Result]) -> list[Result]:
    """Run ``work(number)`` in threads that start together; the first failure is raised."""
    barrier = threading.Barrier(WRITERS)

    def started(number: int) -> Result:
        barrier.wait(DEADLINE)
        return work(number)

    with ThreadPoolExecutor(WRITERS) as threads:
        return list(threads.map(started, range(WRITERS), timeout=DEADLINE))


def linger(work, chance):
    """Do something in the database between the appends and the commit, as real units do."""
    work.session.execute(
        sa.text("SELECT sum(n) FROM generate_series(1, :rows) AS n"),
        {"rows": chance.choice([1, 1000, 20000])},
    )


def test_readers_that_follow_busy_writers_see_every_event_once(committed_database):
    events = EventStore(committed_database)
    kept: list[uuid.UUID] = []

    def write(number: int) -> None:
        chance = random.Random(number)
        for _ in range(UNITS):
            with contextlib.suppress(ZeroDivisionError):
                kept.extend(event.event_id for event in unit(chance))

    def unit(chance: random.Random) -> list[PendingEvent]:
        with committed_database.transaction() as work:
            appended = [
                events.append(work, "Stream", str(chance.randrange(20)), "Happened", {})
                for _ in range(chance.randint(1, 4))
            ]
            if chance.random() < 0.5:
                events.flush(work)
                linger(work, chance)
            if chance.random() < 0.25:
                raise ZeroDivisionError
        return appended

    tails = [Tail(events) for _ in range(2)]
    for tail in tails:
        tail.start()
    in_parallel(write)
    for tail in tails:
        tail.finish.set()
        tail.join(DEADLINE)
        assert list(range(1, len(kept) + 1)) == tail.positions
        assert set(kept) == set(tail.ids)
    assert all_hashes_hold(committed_database)


def all_hashes_hold(database: Database) -> bool:
    """Make every row hash and every link of the chain again, in the database."""
    with database.read() as work:
        rows = work.session.scalar(
            sa.text("""
            SELECT bool_and(row_hash = event_row_hash(log_id, position, event_id, aggregate_type,
                aggregate_id, version, event_type, schema_version, data, metadata, user_id,
                subject_id, correlation_id, causation_id, occurred_at, recorded_at))
            FROM event_log
        """)
        )
        links = work.session.scalar(
            sa.text("""
            SELECT bool_and(chain = sha256(before || hashes)) FROM (
                SELECT
                    chain,
                    coalesce(
                        lag(chain) OVER (ORDER BY last_position), decode(repeat('00', 32), 'hex')
                    ) AS before,
                    (
                        SELECT string_agg(row_hash, ''::bytea ORDER BY position) FROM event_log
                        WHERE position BETWEEN last_position - events + 1 AND last_position
                    ) AS hashes
                FROM event_commit
            ) AS link
        """)
        )
    return bool(rows and links)


def test_one_writer_wins_each_version(committed_database):
    events = EventStore(committed_database)

    def compete(number: int) -> list[bool]:
        return [append_at(version, number) for version in range(15)]

    def append_at(version: int, number: int) -> bool:
        meeting[version].wait(DEADLINE)
        try:
            with committed_database.transaction() as work:
                events.append(work, "Stream", "7", "Won", {"by": number}, expected_version=version)
        except VersionConflictError:
            return False
        return True

    meeting = [threading.Barrier(WRITERS) for _ in range(15)]
    results = in_parallel(compete)
    assert [1] * 15 == [sum(round_) for round_ in zip(*results, strict=True)]
    assert list(range(1, 16)) == [event.version for event in events.read("Stream", "7")]


def test_units_that_append_to_many_aggregates_do_not_deadlock(committed_database):
    events = EventStore(committed_database)

    def write(number: int) -> None:
        chance = random.Random(number)
        for _ in range(40):
            with committed_database.transaction() as work:
                for aggregate in chance.sample("ABCDEFGH", 6):
                    events.append(work, aggregate, "1", "Happened", {})
                    events.append(work, "Shared", aggregate, "Happened", {})

    in_parallel(write)
    assert WRITERS * 40 * 12 == sum(1 for _ in events.read_all())


def test_a_retry_in_parallel_with_the_original_doubles_nothing(committed_database):
    """The same batch from several connections at once: one writes, the others are told where."""
    events = EventStore(committed_database)

    def say_again(number: int) -> list[PendingEvent]:
        with committed_database.transaction() as work:
            said = [
                events.append(work, kind, "7", "Said", {}, event_id=event_id, expected_version=0)
                for kind, event_id in zip("AB", ids, strict=True)
            ]
        with committed_database.transaction() as work:
            events.append(work, "Other", str(number), "Happened", {})
        return said

    ids = [uuid.uuid4(), uuid.uuid4()]
    results = in_parallel(say_again)
    assert 1 == len({tuple(event.position for event in said) for said in results})
    assert 1 == sum(not said[0].duplicate for said in results)
    assert 2 + WRITERS == sum(1 for _ in events.read_all())


@pytest.fixture
def proxied(clean_database_url: str) -> Iterator[tuple[Database, Proxy]]:
    """A database behind a proxy that can cut the connection."""
    at = conninfo_to_dict(clean_database_url)
    with Proxy(socket.AF_UNIX, f"{at['host']}/.s.PGSQL.{at['port']}") as proxy:
        url = f"postgresql://{at['user']}@127.0.0.1:{proxy.port}/{at['dbname']}"
        with Database(settings_for(url, "redis://nowhere.invalid").database) as database:
            yield database, proxy


def read_something(work):
    """Make the unit more than its append, which would be one statement without a COMMIT."""
    work.events.get_head()


@pytest.mark.parametrize(
    ("first", "sent"), [(read_something, b"COMMIT"), (lambda _: None, b"Said")], ids=["3", "1"]
)
@pytest.mark.parametrize("when", ["cut_before", "cut_after"])
def test_a_retry_after_a_lost_commit_doubles_nothing(proxied, when, first, sent):
    database, proxy = proxied
    events = EventStore(database)
    event_id = uuid.uuid4()
    attempts = []

    def say(work):
        attempts.append(work)
        setattr(proxy, when, cut if len(attempts) == 1 else None)
        first(work)
        return events.append(work, "Stream", "7", "Said", {}, event_id=event_id, expected_version=0)

    def cut(data: bytes) -> bool:
        return sent in data

    event = database.run(say, idempotent=True)
    assert 2 == len(attempts)
    assert (when == "cut_after") == event.duplicate
    assert [(1, 1, event_id)] == [
        (found.position, found.version, found.event_id) for found in events.read_all()
    ]
    assert (1, 1) == (event.position, event.version)


def test_without_an_id_of_its_own_a_lost_commit_is_not_tried_again(proxied):
    database, proxy = proxied
    events = EventStore(database)

    def say(work):
        proxy.cut_after = lambda data: b"COMMIT" in data
        read_something(work)
        return events.append(work, "Stream", "7", "Said", {})

    with pytest.raises(DatabaseUnavailableError, match="may or may not"):
        database.run(say)
    proxy.cut_after = None
    # The server may still be at the commit whose answer was cut off.
    until = time.monotonic() + 30
    while not (said := sum(1 for _ in events.read_all())) and time.monotonic() < until:
        time.sleep(0.01)
    assert 1 == said
