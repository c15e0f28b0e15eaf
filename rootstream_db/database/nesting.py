"""Keep units of work inside units of work from waiting for each other for ever."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

from rootstream_db.errors import StorageError


class Level(IntEnum):
    """The pool a unit belongs to; a thread only ever climbs."""

    OUTER = 0
    NESTED = 1
    INDEPENDENT = 2


class Nesting:
    """Knows which units each thread is inside of, and where its next one belongs.

    Threads that hold a connection and wait for a second one from the same pool deadlock as soon as
    every holder does so. Pools in a fixed order cannot: an outer unit uses the main pool, a unit
    inside it the next one, an independent unit the last one, and nobody may go back down.
    """

    def __init__(self) -> None:
        self._held: dict[int, list[Level]] = {}

    @contextmanager
    def entered(self, *, independent: bool) -> Iterator[Level]:
        """Count a unit of this thread; yields the level it belongs to.

        Raises:
            StorageError: the thread is too deep inside units already.
        """
        # The key is kept: a block may be left by another thread than the one that entered it.
        thread = threading.get_ident()
        held = self._held.setdefault(thread, [])
        level = _next_level(held, independent=independent)
        held.append(level)
        try:
            yield level
        finally:
            # By value, because a generator may end its block after a later one began.
            held.remove(level)
            if not held:
                self._held.pop(thread, None)


def _next_level(held: list[Level], *, independent: bool) -> Level:
    wanted = Level.NESTED if held else Level.OUTER
    if independent:
        wanted = Level.INDEPENDENT
    if held and max(held) >= wanted:
        raise StorageError(
            f"a unit of work cannot be opened inside {_NAMES[max(held)]}: pass the `work` you have "
            "on instead"
        )
    return wanted


_NAMES = {Level.NESTED: "a nested one", Level.INDEPENDENT: "an independent one"}
