from __future__ import annotations

import queue

import pytest
import redis
from redis import exceptions

from rootstream_db.cache.faults import is_outage, translated
from rootstream_db.errors import (
    CacheUnavailableError,
    ConflictError,
    StorageError,
    ValidationError,
)


@pytest.mark.parametrize(
    ("raised", "expected", "reason"),
    [
        (exceptions.ConnectionError("refused"), CacheUnavailableError, "connection"),
        (exceptions.TimeoutError("slow"), CacheUnavailableError, "connection"),
        (exceptions.BusyLoadingError("loading"), CacheUnavailableError, "connection"),
        (exceptions.AuthenticationError("WRONGPASS"), CacheUnavailableError, "credentials"),
        (exceptions.OutOfMemoryError("OOM"), CacheUnavailableError, "refused"),
        (exceptions.ReadOnlyError("READONLY"), CacheUnavailableError, "refused"),
        (exceptions.WatchError("changed"), ConflictError, None),
        (exceptions.DataError("a dict"), ValidationError, None),
        (exceptions.ResponseError("WRONGTYPE"), StorageError, None),
    ],
)
def test_each_fault_has_one_error(raised, expected, reason):
    error = translated(raised, "host:1")
    assert expected is type(error)
    assert reason == error.context.get("reason")


def test_a_lost_connection_is_an_outage():
    assert is_outage(exceptions.ConnectionError("reset"))
    assert is_outage(exceptions.TimeoutError("slow"))


@pytest.mark.parametrize(
    "error", [exceptions.ResponseError("WRONGTYPE"), exceptions.MaxConnectionsError("full")]
)
def test_a_refused_command_is_no_outage(error):
    assert not is_outage(error)


def test_a_full_pool_is_no_outage():
    pool = redis.BlockingConnectionPool(max_connections=1, timeout=0.01)
    pool.pool.get_nowait()
    with pytest.raises(exceptions.ConnectionError) as caught:
        pool.get_connection()
    assert isinstance(caught.value.__context__, queue.Empty)
    assert not is_outage(caught.value)
