"""The outbox relay: every event that was committed becomes one delivery for each endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

from rootstream_db.database import Database
from rootstream_db.models.webhooks import DeliveryState, WebhookEndpoint
from rootstream_db.services.event_store import EventStore, RecordedEvent
from rootstream_db.unit_of_work import UnitOfWork

BATCH: Final = 500
"""Events relayed in one transaction."""


class WebhookRelay:
    """Follows the log and makes deliveries.

    The checkpoint moves in the transaction that inserts the deliveries, and positions have no
    holes: whatever dies, no event is left out and none is relayed twice. Of several relays one
    works, the others do nothing.

    Args:
        database: where the log and the deliveries are.
        events: reads the log.
    """

    def __init__(self, database: Database, events: EventStore) -> None:
        self._database = database
        self._events = events

    def relay(self) -> int:
        """Relay what was committed until now; return how many deliveries were made."""
        made = 0
        while True:
            # Done twice it does nothing the second time: the checkpoint has moved.
            events, deliveries = self._database.run(self._relay_batch, idempotent=True)
            made += deliveries
            if events < BATCH:
                return made

    def _relay_batch(self, work: UnitOfWork) -> tuple[int, int]:
        position = work.webhook_relay.take()
        if position is None:
            return 0, 0
        # An event that cannot be brought up to date holds up its own message, not the relay.
        found = self._events.read_all(
            after_position=position, as_written=True, work=work, batch=BATCH
        )
        events = list(islice(found, BATCH))
        if not events:
            return 0, 0
        deliveries = _deliveries(events, work.webhook_endpoints.keep_enabled(), work)
        work.webhook_deliveries.add_all(deliveries)
        work.webhook_relay.move(events[-1].position)
        return len(events), len(deliveries)


def _deliveries(
    events: Sequence[RecordedEvent], endpoints: Sequence[WebhookEndpoint], work: UnitOfWork
) -> list[dict[str, Any]]:
    return [
        {
            "endpoint_id": endpoint.id,
            "position": event.position,
            "event_id": event.event_id,
            "event_type": event.event_type,
            "state": DeliveryState.PENDING,
            "next_attempt_at": work.now,
        }
        for event in events
        for endpoint in endpoints
        if endpoint.wants(event.event_type, event.position)
    ]
