"""The word that the log has grown, from those who append to those who follow."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rootstream_db.errors import CacheUnavailableError

if TYPE_CHECKING:
    from rootstream_db.cache import EventBus

TOPIC: Final = "events"
"""Topic of the event bus on which new events are announced."""

INTERVAL: Final = 0.02
"""Seconds in which a process announces once; what comes within, readers find by their next poll."""

_logger: Final = logging.getLogger(__name__)


class Wakeup:
    """Announces over Redis that there are new events. A hint: who misses it polls a little later.

    It is sent after the commit, by Redis: NOTIFY inside the transaction would let all commits of
    the database wait for one another.

    Args:
        bus: carries the word.
    """

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self._last = -INTERVAL

    def announce(self) -> None:
        """Tell everybody who listens, unless this process did so a moment ago."""
        now = time.monotonic()
        if now - self._last < INTERVAL:
            return
        self._last = now
        try:
            self._bus.publish(TOPIC, {})
        except CacheUnavailableError as error:
            _logger.debug("new events are not announced, readers poll: %s", error)

    @contextmanager
    def listening(self) -> Iterator[threading.Event]:
        """Yield an event that is set whenever there may be new events."""
        grown = threading.Event()
        with self._bus.subscribe(TOPIC, lambda _topic, _payload: grown.set()):
            yield grown
