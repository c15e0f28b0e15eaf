"""What must happen while nobody calls: dead publishers end, viewer counts reach PostgreSQL."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

_logger = logging.getLogger(__name__)

SHORTEST_INTERVAL: Final = timedelta(milliseconds=200)
LONGEST_INTERVAL: Final = timedelta(seconds=5)
_ROUNDS_PER_LEASE: Final = 4


class Maintenance:
    """A thread that runs jobs at an interval until it is told to stop.

    A job that fails is logged when its failures begin and when they end, and tried again the next
    time: an outage of an hour is two lines, not thousands.

    Args:
        jobs: what to run, by the name the log calls it.
        interval: the pause between rounds.
    """

    def __init__(self, jobs: Mapping[str, Callable[[], object]], *, interval: timedelta) -> None:
        self._jobs = dict(jobs)
        self._interval = interval
        self._stop = threading.Event()
        self._failing: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="ingest-maintenance", daemon=True)

    def start(self) -> None:
        """Begin; the first round runs at once."""
        self._thread.start()

    def close(self) -> None:
        """Finish the round under way and end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def run_once(self) -> None:
        """Run each job once; a failing one does not keep the others from running."""
        for name, job in self._jobs.items():
            self._attempt(name, job)

    def _run(self) -> None:
        while True:
            self.run_once()
            if self._stop.wait(self._interval.total_seconds()):
                return

    def _attempt(self, name: str, job: Callable[[], object]) -> None:
        try:
            job()
        except Exception as error:  # noqa: BLE001 - whatever it was, the next round tries again
            if name not in self._failing:
                _logger.error("%s fails, trying on: %s", name, error)  # noqa: TRY400 - one line
            self._failing.add(name)
        else:
            if name in self._failing:
                _logger.info("%s works again", name)
            self._failing.discard(name)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def interval_for(lease_ttl: timedelta) -> timedelta:
    """Return how often to look: several times a lease, but neither hectic nor idle."""
    return min(max(lease_ttl / _ROUNDS_PER_LEASE, SHORTEST_INTERVAL), LONGEST_INTERVAL)
