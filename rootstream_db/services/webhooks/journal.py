"""What the log says about endpoints; never their URL or their secret."""

from __future__ import annotations

from typing import Any, Final

from rootstream_db.models.webhooks import MAX_REASON, WebhookEndpoint
from rootstream_db.services.event_store import EventStore
from rootstream_db.unit_of_work import UnitOfWork

AGGREGATE: Final = "Webhook"
"""Aggregate type of the events of endpoints; the aggregate's id is the endpoint's."""


class WebhookJournal:
    """Changes what is told of: an endpoint and, in the same transaction, the log.

    Args:
        events: where it is told.
    """

    def __init__(self, events: EventStore) -> None:
        self._events = events

    def record(
        self, work: UnitOfWork, endpoint: WebhookEndpoint, event: str, data: dict[str, Any]
    ) -> None:
        """Append an event of the endpoint to the unit of work."""
        self._events.append(work, AGGREGATE, str(endpoint.id), event, data)

    def disable(self, work: UnitOfWork, endpoint: WebhookEndpoint, reason: str) -> None:
        """Switch an endpoint off and say why; one that is off already stays as it is."""
        if endpoint.enabled:
            endpoint.enabled = False
            endpoint.disabled_reason = reason[:MAX_REASON]
            data = {"reason": endpoint.disabled_reason}
            self.record(work, endpoint, "WebhookDisabled", data)
