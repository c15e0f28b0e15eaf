"""A receiver, and webhooks on a database that really commits."""

from __future__ import annotations

import pytest

from rootstream_db.services.event_store import EventStore
from rootstream_db.services.webhooks import WebhookManager
from rootstream_db.settings import WebhookSettings
from tests.fixtures.receiver import Receiver

SETTINGS = WebhookSettings(timeout=5, attempts=3, workers=8, per_endpoint=3, poll_interval=0.02)


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def events(committed_database, clock):
    return EventStore(committed_database, clock=clock)


@pytest.fixture
def managed(committed_database, events, clock):
    """A function that makes webhooks with other settings."""

    def make(**changes: object) -> WebhookManager:
        settings = WebhookSettings(**{**SETTINGS.model_dump(), **changes})
        return WebhookManager(committed_database, events, settings=settings, clock=clock)

    return make


@pytest.fixture
def webhooks(managed):
    return managed()


@pytest.fixture
def add(committed_database, webhooks):
    """A function that adds an endpoint and returns it with its secret."""

    def one(url: str, **options: object):
        with committed_database.transaction() as work:
            return webhooks.add(work, url, **options)

    return one


@pytest.fixture
def happen(committed_database, events):
    """A function that appends events, all in one unit."""

    def some(number: int = 1, event_type: str = "Happened"):
        with committed_database.transaction() as work:
            return [
                events.append(work, "Thing", "1", event_type, {"number": n}) for n in range(number)
            ]

    return some


@pytest.fixture
def log(committed_database):
    """A function that returns an endpoint's deliveries and their attempts, oldest first."""

    def of(endpoint):
        with committed_database.read() as work:
            found = work.webhook_deliveries.list_of_endpoint(endpoint.id, limit=1000)
            return [
                (delivery, work.webhook_attempts.list_of_delivery(delivery.id))
                for delivery in reversed(found)
            ]

    return of
