"""The process that relays and delivers until it is told to stop."""

from __future__ import annotations

import threading
from datetime import timedelta

from rootstream_db.services.ingest.maintenance import Maintenance
from rootstream_db.services.webhooks.crew import Crew
from rootstream_db.services.webhooks.manager import WebhookManager
from rootstream_db.settings import WebhookSettings


class WebhookWorker:
    """Relays in one thread and delivers in others; several workers share the messages.

    Outages of the database are logged once and outlasted.

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
        with self._crew, Maintenance("webhook relay", self._relay, interval=interval):
            while not self._stop.is_set():
                delivering.run_once()
                self._crew.wait(self._settings.poll_interval)

    def stop(self) -> None:
        """Have ``run`` return soon; safe to call from a signal handler."""
        self._stop.set()
        self._crew.wake()

    def _relay(self) -> None:
        if self._webhooks.relay():
            self._crew.wake()
        self._webhooks.forget()
