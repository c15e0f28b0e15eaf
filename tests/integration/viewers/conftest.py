from __future__ import annotations

import pytest

from rootstream_db.services.viewers import ViewerManager
from rootstream_db.settings import ViewerSettings
from tests.factories import make_stream


@pytest.fixture
def viewers(rootstream):
    return rootstream.viewers


@pytest.fixture
def small_batches(rootstream, clock):
    """A manager whose flushes take two streams in a transaction."""
    return ViewerManager(
        rootstream.database, rootstream.cache, settings=ViewerSettings(flush_batch=2), clock=clock
    )


@pytest.fixture
def make_streams(rootstream):
    """Return the ids of new streams."""

    def make(count: int, **overrides) -> list[int]:
        with rootstream.transaction() as work:
            return [make_stream(work, **overrides).id for _ in range(count)]

    return make


@pytest.fixture
def stream_id(make_streams):
    return make_streams(1)[0]


@pytest.fixture
def totals(rootstream):
    """Return (heartbeats, views, watch seconds, bytes) of a stream."""

    def read(stream_id: int) -> tuple[int, int, int, int]:
        with rootstream.transaction() as work:
            row = work.stream_totals.get_one(stream_id)
            return row.heartbeats, row.views, row.watch_seconds, row.bytes_out

    return read


@pytest.fixture
def visits(rootstream):
    """Return the visits to a stream, the latest first."""

    def read(stream_id: int):
        with rootstream.transaction() as work:
            return work.viewer_sessions.list_by_stream(stream_id)

    return read
