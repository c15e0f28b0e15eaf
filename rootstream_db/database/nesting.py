"""Keep units of work inside units of work from waiting for each other for ever."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rootstream_db.errors import StorageError


class Nesting:
    """Knows which thread is inside which kind of unit, and where the next one may go.

    Threads that hold a connection and wait for a second one from the same pool deadlock as soon as
    every holder does so. Two pools in a fixed order cannot: an outer unit uses the main pool, one
    inside it the side pool, and inside the side pool nothing more may be opened.
    """

    def __init__(self) -> None:
        self._on_side: dict[int, list[bool]] = {}

    @contextmanager
    def entered(self, *, side: bool) -> Iterator[bool]:
        """Count a unit of this thread; yields whether it belongs on the side pool."""
        # The key is kept: a block may be left by another thread than the one that entered it.
        thread = threading.get_ident()
        stack = self._on_side.setdefault(thread, [])
        if stack and stack[-1]:
            raise StorageError(
                "a unit of work inside an independent or nested one cannot be opened: pass the "
                "`work` you have on instead"
            )
        here = side or bool(stack)
        stack.append(here)
        try:
            yield here
        finally:
            stack.pop()
            if not stack:
                self._on_side.pop(thread, None)
