"""Redis: the cache in front of PostgreSQL, live state, and messages between processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rootstream_db.cache.client import RedisCache
    from rootstream_db.cache.pubsub import EventBus

__all__ = ["EventBus", "RedisCache"]

_HOMES = {"EventBus": "pubsub", "RedisCache": "client"}


def __getattr__(name: str) -> Any:
    """Import on first use: whoever only needs the key table does not pay for redis-py."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
