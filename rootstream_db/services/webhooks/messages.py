"""What a receiver is sent: an event as JSON, the same bytes at every attempt."""

from __future__ import annotations

import uuid
from datetime import UTC

import orjson

from rootstream_db.repositories.events import RecordedEvent


def message_id(event_id: uuid.UUID) -> str:
    """Return the id by which a receiver knows a message again, whenever it is repeated."""
    return f"evt_{event_id.hex}"


def body_of(event: RecordedEvent) -> bytes:
    """Return the event as a receiver gets it, in UTC whatever the session's time zone is.

    Metadata is left out: it says from where somebody did something.
    """
    return orjson.dumps(
        {
            "type": event.event_type,
            "timestamp": event.occurred_at.astimezone(UTC),
            "data": event.data,
            "event": {
                "id": event.event_id,
                "position": event.position,
                "aggregate_type": event.aggregate_type,
                "aggregate_id": event.aggregate_id,
                "version": event.version,
                "schema_version": event.schema_version,
                "user_id": event.user_id,
                "correlation_id": event.correlation_id,
                "recorded_at": event.recorded_at.astimezone(UTC),
            },
        },
        option=orjson.OPT_UTC_Z,
    )
