"""The page of the key table."""

from __future__ import annotations

from rootstream_db.cache.keys import Keys
from rootstream_db.settings import CacheSettings, RedisSettings

INTRODUCTION = """\
# Redis keys

Everything the package keeps in Redis. The first part of each key is the setting `redis.key_prefix`.
"""


def render() -> str:
    """Return the page."""
    return f"{INTRODUCTION}\n{Keys(RedisSettings().key_prefix, CacheSettings()).as_markdown()}"
