"""Name the machine in general terms, as context for absolute rates."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version

from rootstream_db import RootStream

LIBRARIES = ("sqlalchemy", "psycopg", "psycopg-pool", "redis")


def describe(rootstream: RootStream) -> dict[str, str]:
    """Return what a figure depends on and another machine can be compared by."""
    redis = rootstream.cache.client.info("server")
    return {
        "cores": str(os.cpu_count()),
        "load": f"{os.getloadavg()[0]:.1f} at the start",
        "python": platform.python_version(),
        "postgresql": rootstream.database.ping().server_version,
        "redis": f"{redis.get('server_name', 'redis')} {redis['redis_version']}",
        **{name: version(name) for name in LIBRARIES},
    }
