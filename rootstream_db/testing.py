"""What tests of this package and of its users need: throwaway servers and a clock that obeys."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from rootstream_db.embedded import EmbeddedPostgres, EmbeddedRedis
from rootstream_db.settings import (
    AccountSettings,
    DatabaseSettings,
    MfaSettings,
    RedisSettings,
    Settings,
)

EPOCH: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""Where a ``FrozenClock`` starts unless told otherwise."""

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - memory-backed storage, a folder of our own inside


class FrozenClock:
    """A clock that stands still until it is told to move.

    >>> clock = FrozenClock()
    >>> clock.advance(90) - EPOCH
    datetime.timedelta(seconds=90)
    """

    def __init__(self, now: datetime = EPOCH) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """Return the moment the clock stands at."""
        return self.now

    def advance(self, by: float | timedelta) -> datetime:
        """Move the clock on by a duration, or by seconds, and return the new moment."""
        self.now += by if isinstance(by, timedelta) else timedelta(seconds=by)
        return self.now


@dataclass(frozen=True)
class ThrowawayServers:
    """A PostgreSQL and a Redis that nobody will miss."""

    postgres: EmbeddedPostgres
    redis: EmbeddedRedis

    def settings(self, database: str = "postgres") -> Settings:
        """Return settings for ``database`` on these servers, with the cheapest password hash."""
        return settings_for(self.postgres.url(database), self.redis.url)


@contextmanager
def throwaway_servers(
    path: Path | None = None, *, bindir: Path | None = None
) -> Iterator[ThrowawayServers]:
    """Run a PostgreSQL and a Redis, in memory-backed storage where there is any.

    They trade durability for speed and are gone, data and all, with the last process that entered
    with the same ``path``.

    Raises:
        EmbeddedServerError: a server's program is missing or does not start.
    """
    folder = path or Path(tempfile.mkdtemp(prefix="rootstream-", dir=_scratch()))
    folder.mkdir(parents=True, exist_ok=True)
    # An unprivileged server must be able to walk in; what is inside stays closed to others.
    folder.chmod(0o711)
    postgres = EmbeddedPostgres(
        folder / "postgres", durable=False, bindir=bindir, settings={"autovacuum": "off"}
    )
    redis = EmbeddedRedis(folder / "redis", persist=False)
    try:
        with postgres, redis:
            yield ThrowawayServers(postgres, redis)
    finally:
        if not (postgres.is_running() or redis.is_running()):
            shutil.rmtree(folder, ignore_errors=True)


def settings_for(database_url: str, redis_url: str) -> Settings:
    """Return settings for throwaway servers: small pool, cheapest password hash."""
    return Settings(
        database=DatabaseSettings(url=SecretStr(database_url), pool_size=8),
        redis=RedisSettings(url=SecretStr(redis_url)),
        accounts=AccountSettings(argon2_profile="cheapest-for-tests"),
        mfa=MfaSettings(backup_code_hash="cheapest-for-tests"),
    )


def _scratch() -> str | None:
    return str(_MEMORY) if os.access(_MEMORY, os.W_OK) else None
