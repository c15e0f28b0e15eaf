"""What happened, in one order, for ever: append, read, replay."""

from __future__ import annotations

from rootstream_db.repositories.events import RecordedEvent, StoredSnapshot
from rootstream_db.services.event_store.pending import EXISTS, NEW, NewEvent, PendingEvent
from rootstream_db.services.event_store.replay import Replayed
from rootstream_db.services.event_store.store import EventStore

__all__ = [
    "EXISTS",
    "NEW",
    "EventStore",
    "NewEvent",
    "PendingEvent",
    "RecordedEvent",
    "Replayed",
    "StoredSnapshot",
]
