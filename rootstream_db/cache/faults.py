"""Turns what redis-py raises into the package's errors: the one place that does."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING

from redis import exceptions as redis_errors

from rootstream_db.errors import (
    CacheUnavailableError,
    ConflictError,
    RootStreamError,
    StorageError,
    ValidationError,
)

if TYPE_CHECKING:
    from redis.exceptions import RedisError

# Answers of a server that is reached but cannot serve: as good as down for whoever asks.
_REFUSALS = (
    redis_errors.OutOfMemoryError,
    redis_errors.ReadOnlyError,
    redis_errors.ClusterDownError,
)


def is_outage(error: RedisError) -> bool:
    """Return whether ``error`` says that further calls would fail as well.

    A full pool is not an outage: the connections are busy with calls that succeed.
    """
    if isinstance(error, redis_errors.MaxConnectionsError):
        return False
    if isinstance(error.__context__, queue.Empty):
        return False
    return isinstance(error, redis_errors.ConnectionError | redis_errors.TimeoutError)


def translated(error: RedisError, address: str) -> RootStreamError:
    """Return the package's error for ``error``; ``address`` names the server without secrets."""
    match error:
        case redis_errors.AuthenticationError() | redis_errors.AuthorizationError():
            return CacheUnavailableError(
                f"Redis at {address} refused the user name or password in redis.url",
                address=address,
                reason="credentials",
            )
        case redis_errors.ConnectionError() | redis_errors.TimeoutError():
            return CacheUnavailableError(
                f"Redis at {address} cannot be used: {error}", address=address, reason="connection"
            )
        case redis_errors.WatchError():
            return ConflictError("a watched key changed: read it again and decide anew")
        case redis_errors.DataError():
            return ValidationError(f"Redis cannot store this value: {error}")
        case _ if isinstance(error, _REFUSALS):
            return CacheUnavailableError(
                f"Redis at {address} cannot serve: {error}", address=address, reason="refused"
            )
        case _:
            return StorageError(f"Redis refused the command: {error}", address=address)
