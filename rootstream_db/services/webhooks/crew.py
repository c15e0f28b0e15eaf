"""Threads that deliver: who gets how many of them, so that one receiver holds up no other."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self

from rootstream_db.services.webhooks.deliverer import Claim, WebhookDeliverer
from rootstream_db.settings import WebhookSettings

_logger: Final = logging.getLogger(__name__)


class Crew:
    """Delivers with a fixed number of threads.

    An endpoint gets a few messages at once and more when those are answered. Endpoints that fail
    share one half of the threads, one message each: however many there are and however slow, those
    that answer are served.

    Args:
        deliverer: makes the attempts.
        settings: how many threads.
    """

    def __init__(self, deliverer: WebhookDeliverer, settings: WebhookSettings) -> None:
        self.attempts = 0
        self._deliverer = deliverer
        self._settings = settings
        self._wake = threading.Event()
        self._in_flight: dict[Future[None], tuple[int, bool]] = {}
        self._threads = ThreadPoolExecutor(settings.workers, "webhook delivery")

    @property
    def is_busy(self) -> bool:
        """Whether attempts are under way."""
        return bool(self._in_flight)

    def pump(self) -> int:
        """Take in what is done, begin what is due; return how many attempts began."""
        self._wake.clear()
        self._settle()
        return self._begin(failing=False) + self._begin(failing=True)

    def wait(self, seconds: float) -> None:
        """Wait until an attempt is done, somebody wakes the crew, or the time is up."""
        self._wake.wait(seconds)

    def wake(self) -> None:
        """Have ``wait`` return at once."""
        self._wake.set()

    def close(self) -> None:
        """Finish the attempts under way."""
        self._threads.shutdown()
        self._settle()

    def _begin(self, *, failing: bool) -> int:
        settings = self._settings
        room = settings.workers - len(self._in_flight)
        if failing:
            taken = sum(was_failing for _, was_failing in self._in_flight.values())
            room = min(room, settings.workers // 2 - taken)
        if room <= 0:
            return 0
        claims = self._deliverer.claim(
            failing=failing,
            per_endpoint=1 if failing else settings.per_endpoint,
            limit=room,
            excluded={endpoint_id for endpoint_id, _ in self._in_flight.values()},
        )
        for claim in claims:
            self._start(claim, failing=failing)
        return len(claims)

    def _start(self, claim: Claim, *, failing: bool) -> None:
        future = self._threads.submit(self._deliverer.attempt, claim)
        self._in_flight[future] = claim.endpoint_id, failing
        future.add_done_callback(lambda _: self._wake.set())
        self.attempts += 1

    def _settle(self) -> None:
        for future in [future for future in self._in_flight if future.done()]:
            del self._in_flight[future]
            error = future.exception()
            if error is not None:
                _logger.error("a webhook attempt was not recorded and is repeated: %s", error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
