"""Both servers together, in one folder: what an application that runs embedded needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rootstream_db.embedded.folder import ServerFolder
from rootstream_db.embedded.postgres import EmbeddedPostgres
from rootstream_db.embedded.redis import EmbeddedRedis
from rootstream_db.embedded.secrets import FolderSecrets, folder_secrets
from rootstream_db.settings import EmbeddedSettings


@dataclass(frozen=True)
class EmbeddedServers:
    """A PostgreSQL and a Redis that run, with the addresses to use."""

    postgres: EmbeddedPostgres
    redis: EmbeddedRedis
    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    secrets: FolderSecrets


@contextmanager
def start_servers(
    path: Path | str, settings: EmbeddedSettings, *, database: str = "postgres"
) -> Iterator[EmbeddedServers]:
    """Start (or join) a PostgreSQL and a Redis under ``path`` for as long as the block lasts.

    Raises:
        EmbeddedServerError: a server's program is missing or does not start.
    """
    together = ServerFolder(path, "pair")
    together.create()
    folder = together.path
    secrets = folder_secrets(together)
    postgres = EmbeddedPostgres(
        folder / "postgres", bindir=settings.postgres_bindir, run_as=settings.run_as
    )
    redis = EmbeddedRedis(folder / "redis", server=settings.redis_server, run_as=settings.run_as)
    with postgres, redis:
        url = postgres.create_database(database)
        yield EmbeddedServers(postgres, redis, url, redis.url, secrets)
