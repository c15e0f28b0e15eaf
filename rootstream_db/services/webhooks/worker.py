"""The process that relays and delivers until it is told to stop."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Final

from rootstream_db.services.event_store.following import Patience
from rootstream_db.services.maintenance import Maintenance
from rootstream_db.services.webhooks.crew import Crew
from rootstream_db.services.webhooks.manager import WebhookManager
from rootstream_db.settings import WebhookSettings

FORGET_INTERVAL: Final = timedelta(minutes=1)


class WebhookWorker:
    """Relays in one thread and delivers in others; several workers share the messages.

    It relays when Redis carries the word of new events, and looks for itself now and then. Outages
    of the database are logged once and outlasted.

    Args:
        webhooks: does the work.
        settings: how often to look, how many threads.
    """

    def __init__(self, webhooks: WebhookManager, settings: WebhookSettings) -> None:
        self._webhooks = webhooks
        self._settings = settings
        self._stop = threading.Event()
        self._crew = Crew(webhooks.deliverer, settings)

    def run(self) -> None:
        """Work until ``stop``; attempts under way are finished."""
        interval = timedelta(seconds=self._settings.poll_interval)
        delivering = Maintenance("webhook delivery", self._crew.pump, interval=interval)
        relaying = threading.Thread(target=self._follow_log, name="webhook relay")
        forgetting = Maintenance(
            "deleting old webhook messages", self._webhooks.forget, interval=FORGET_INTERVAL
        )
        with self._crew, forgetting:
            relaying.start()
            try:
                while not self._stop.is_set():
                    delivering.run_once()
                    self._crew.wait(self._settings.poll_interval)
            finally:
                self._stop.set()
                relaying.join()

    def stop(self) -> None:
        """Have ``run`` return soon; safe to call from a signal handler."""
        self._stop.set()
        self._crew.wake()

    def _follow_log(self) -> None:
        longest = self._settings.poll_interval
        relaying = Maintenance("webhook relay", self._relay, interval=timedelta(seconds=longest))
        patience = Patience(self._stop, longest=longest)
        with self._webhooks.listening() as grown:
            while not self._stop.is_set():
                relaying.run_once()
                patience.wait(grown)

    def _relay(self) -> None:
        if self._webhooks.relay():
            self._crew.wake()
