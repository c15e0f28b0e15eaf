from __future__ import annotations

import time

import pytest
from pydantic import SecretStr

from rootstream_db.cache import EventBus, RedisCache
from rootstream_db.services.billing import BillingManager
from rootstream_db.services.event_store import EventStore
from rootstream_db.services.streams import StreamManager
from rootstream_db.settings import CacheSettings, RedisSettings, StreamSettings
from tests.factories import MINT, make_user


@pytest.fixture
def events(database, clock):
    return EventStore(database, clock=clock)


@pytest.fixture
def billing(events, clock):
    return BillingManager(events, clock=clock)


@pytest.fixture
def streams(database, events, cache, bus, clock):
    """A stream manager whose transactions are rolled back after the test."""
    return StreamManager(
        database,
        events,
        tokens=MINT,
        cache=cache,
        bus=bus,
        settings=StreamSettings(),
        clock=clock,
    )


@pytest.fixture
def owner(database):
    with database.transaction() as work:
        return make_user(work)


@pytest.fixture
def made(database, streams, owner):
    """A stream and its key."""
    with database.transaction() as work:
        return streams.create(work, owner=owner, name="Speedrun")


@pytest.fixture
def stream(made):
    return made[0]


@pytest.fixture
def key(made):
    return made[1]


@pytest.fixture
def session_of(database):
    """Read a stream session as it is stored now."""

    def read(lease):
        with database.read() as work:
            return work.stream_sessions.get_one(lease.stream_session_id)

    return read


@pytest.fixture
def live_row(database):
    """Read a stream's live row as it is stored now."""

    def read(stream):
        with database.read() as work:
            return work.stream_live.get_one(stream.id)

    return read


@pytest.fixture
def history(events):
    """Read what happened to a stream."""

    def read(stream):
        return list(events.read("Stream", str(stream.id)))

    return read


@pytest.fixture
def lonely_streams(database, events, clock):
    """A stream manager whose Redis is down."""
    nowhere = RedisSettings(url=SecretStr("redis://127.0.0.1:1"))
    with RedisCache(nowhere, ttls=CacheSettings()) as cache, EventBus(nowhere) as bus:
        yield StreamManager(
            database,
            events,
            tokens=MINT,
            cache=cache,
            bus=bus,
            settings=StreamSettings(),
            clock=clock,
        )


@pytest.fixture
def eventually():
    """Wait until something holds, at most 10 seconds."""

    def wait(holds):
        give_up_at = time.monotonic() + 10
        while not holds():
            assert time.monotonic() < give_up_at, "it never held"
            time.sleep(0.005)

    return wait
