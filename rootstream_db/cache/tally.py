"""Counts what happens, from any thread."""

from __future__ import annotations

import threading
from collections import Counter

from rootstream_db.cache.forks import watch_forks


class Tally:
    """Named counters that threads and forked children can add to."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        watch_forks(self)

    def add(self, name: str, count: int = 1) -> None:
        """Add ``count`` to the counter ``name``."""
        with self._lock:
            self._counts[name] += count

    def __getitem__(self, name: str) -> int:
        return self._counts[name]

    def after_fork(self) -> None:
        """Replace a lock that another thread of the parent may have held."""
        self._lock = threading.Lock()
