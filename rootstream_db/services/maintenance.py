"""What must happen while nobody calls: a job, again and again, in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Self

_logger = logging.getLogger(__name__)


class Maintenance:
    """A thread that runs one job at an interval until it is told to stop.

    A job that fails is logged when its failures begin and when they end, and tried again the next
    time: an outage of an hour is two lines, not thousands.

    Args:
        name: what the log calls the job.
        job: what to run.
        interval: the pause between two runs.
    """

    def __init__(self, name: str, job: Callable[[], object], *, interval: timedelta) -> None:
        self._name = name
        self._job = job
        self._interval = interval
        self._stop = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; the first run is at once."""
        self._thread.start()

    def close(self) -> None:
        """Finish the run under way and end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def run_once(self) -> None:
        """Run the job; a failure is logged, not raised."""
        try:
            self._job()
        except Exception as error:  # noqa: BLE001 - whatever it was, the next run tries again
            if not self._failing:
                _logger.error("%s fails, trying on: %s", self._name, error)  # noqa: TRY400 - one line
            self._failing = True
        else:
            if self._failing:
                _logger.info("%s works again", self._name)
            self._failing = False

    def _run(self) -> None:
        while True:
            self.run_once()
            if self._stop.wait(self._interval.total_seconds()):
                return

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
