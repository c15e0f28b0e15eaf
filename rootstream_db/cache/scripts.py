"""Lua scripts, and the units Redis wants."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from redis import exceptions as redis_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from rootstream_db.cache.link import RedisLink


class Script:
    """A Lua script, sent by its hash and in full only to a server that does not know it.

    Args:
        link: the way to Redis.
        source: the Lua text; it must touch only the keys it is given.
        idempotent: whether running twice does no harm, so that a broken connection is retried.
    """

    def __init__(self, link: RedisLink, source: str, *, idempotent: bool = False) -> None:
        self._link = link
        self._source = source
        self._execute: Callable[..., Any] = (
            link.steady.execute_command if idempotent else link.once.execute_command
        )
        # Redis names scripts by SHA-1; nothing rests on its strength.
        self._sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()

    def __call__(
        self,
        keys: Sequence[str] = (),
        args: Sequence[str | bytes | int | float] = (),
    ) -> Any:
        """Run the script and return its reply."""
        with self._link.guarded():
            try:
                return self._execute("EVALSHA", self._sha, len(keys), *keys, *args)
            except redis_errors.NoScriptError:
                return self._execute("EVAL", self._source, len(keys), *keys, *args)


def milliseconds(ttl: timedelta) -> int:
    """Return ``ttl`` as Redis counts it; at least 1, because 0 would be an error."""
    return max(1, round(ttl.total_seconds() * 1000))
