"""However a read model came about, in one go or bit by bit, it is the one the events make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from rootstream_db.database import Database
from rootstream_db.services.event_store import EventStore, NewEvent
from rootstream_db.services.projections import (
    ActivityProjection,
    Projections,
    StreamStatsProjection,
)
from rootstream_db.testing import EPOCH, settings_for

FIGURES = ("bytes_in", "bytes_out", "views", "watch_seconds", "peak_viewers")
SECONDS = 86400
MOMENTS = st.integers(0, 3 * SECONDS * 10**6).map(lambda n: EPOCH + timedelta(microseconds=n))
USERS = st.integers(1, 3)

ended = st.builds(
    lambda stream, start, lasted, numbers: (
        ("Stream", str(stream), "StreamEnded", None),
        {
            "started_at": start.isoformat(),
            "ended_at": (start + lasted).isoformat(),
            **dict(zip(FIGURES, numbers, strict=True)),
        },
    ),
    st.integers(1, 2),
    MOMENTS,
    st.timedeltas(timedelta(0), timedelta(days=2)),
    st.tuples(*[st.integers(0, 2**40)] * len(FIGURES)),
)
Said = tuple[tuple[str, str, str, int | None], dict[str, object]]
did: st.SearchStrategy[Said] = st.builds(lambda user: (("Thing", "1", "Done", user), {}), USERS)
deleted: st.SearchStrategy[Said] = st.builds(
    lambda user: (("User", str(user), "UserDeleted", user), {}), USERS
)
steps = st.lists(
    st.lists(ended | did | deleted, min_size=1, max_size=8) | st.just("run"), max_size=8
)


@contextmanager
def fresh(url: str) -> Iterator[Database]:
    """Yield a database that forgets everything afterwards: an example's own."""
    with create_engine(url, poolclass=NullPool).connect() as connection:
        connection.begin()
        yield Database.joined_to(connection, settings_for(url, "redis://nowhere.invalid").database)
        connection.rollback()


def tables(database: Database) -> list[list[tuple]]:
    queries = (
        "SELECT * FROM stream_stats_day ORDER BY stream_id, day",
        "SELECT * FROM activity_feed ORDER BY user_id, position",
    )
    with database.transaction() as work:
        return [[tuple(row) for row in work.session.execute(text(query))] for query in queries]


@given(steps=steps, batch=st.integers(1, 5))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_bit_by_bit_and_anew_make_the_same(worker_database_url, steps, batch):
    with fresh(worker_database_url) as database:
        events = EventStore(database)
        known = [StreamStatsProjection(), ActivityProjection()]
        projections = Projections(database, events, known, batch=batch)
        said = []
        for step in [*steps, "run"]:
            if step == "run":
                projections.run_once()
            else:
                say(database, events, step)
                said += step
        bit_by_bit = tables(database)
        for name in projections.names:
            projections.rebuild(name)
        assert bit_by_bit == tables(database)
        assert_is_what_was_said(bit_by_bit, said)


def say(database: Database, events: EventStore, step: list) -> None:
    with database.transaction() as work:
        for (kind, key, event_type, user), data in step:
            event = NewEvent(event_type=event_type, data=data, user_id=user)
            events.append_many(work, kind, key, [event])


def assert_is_what_was_said(made, said) -> None:
    stats, feed = made
    broadcasts = [(int(where[1]), data) for where, data in said if where[2] == "StreamEnded"]
    totals: Counter[tuple[int, str]] = Counter()
    for stream_id, data in broadcasts:
        lasted = datetime.fromisoformat(data["ended_at"]) - datetime.fromisoformat(
            data["started_at"]
        )
        totals[stream_id, "microseconds"] += lasted // timedelta(microseconds=1)
        totals[stream_id, "views"] += data["views"]
        totals[stream_id, "broadcasts"] += 1
    held: Counter[tuple[int, str]] = Counter()
    for row in stats:
        held[row[0], "microseconds"] += int(row[3] * 1_000_000)
        held[row[0], "views"] += row[6]
        held[row[0], "broadcasts"] += row[2]
    assert +totals == +held
    expected: list[tuple[int, int]] = []
    for position, (where, _) in enumerate(said, 1):
        if where[2] == "UserDeleted":
            expected = [entry for entry in expected if entry[0] != where[3]]
        elif where[3] is not None:
            expected.append((where[3], position))
    assert sorted(expected) == [(row[0], row[1]) for row in feed]
