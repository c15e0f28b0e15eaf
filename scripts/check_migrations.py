"""Prove on a throwaway PostgreSQL that the migrations make exactly what the models describe."""

from __future__ import annotations

from alembic import command
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from rootstream_db import schema
from rootstream_db.testing import throwaway_servers


def main() -> None:
    """Upgrade an empty database and let ``alembic check`` compare; exit 255 tells what differs."""
    with throwaway_servers() as servers:
        url = servers.postgres.url()
        schema.upgrade(url)
        engine = create_engine(url, poolclass=NullPool)
        with engine.connect() as connection:
            settings = schema.config()
            settings.attributes["connection"] = connection
            command.check(settings)


if __name__ == "__main__":
    main()
