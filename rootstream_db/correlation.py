"""The correlation id of the work in progress: it ties logs, errors and events together."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_current: ContextVar[str | None] = ContextVar("rootstream_correlation_id", default=None)


def current_correlation_id() -> str | None:
    """Return the id set by the innermost ``correlation`` block of this thread or task."""
    return _current.get()


@contextmanager
def correlation(correlation_id: str) -> Iterator[str]:
    """Tie everything done inside the block to ``correlation_id``.

    >>> with correlation("req-7"):
    ...     current_correlation_id()
    'req-7'
    """
    token = _current.set(correlation_id)
    try:
        yield correlation_id
    finally:
        _current.reset(token)
