"""What happened, in one order, for ever: append, read, replay."""

from __future__ import annotations

from rootstream_db.repositories.events import Cursor, LogHead, RecordedEvent
from rootstream_db.repositories.snapshots import StoredSnapshot
from rootstream_db.services.event_store.aggregates import Aggregate, SnapshotPolicy
from rootstream_db.services.event_store.anchors import Anchor, append_anchor, read_anchors
from rootstream_db.services.event_store.appender import AppenderStats, AuditAppender
from rootstream_db.services.event_store.pending import EXISTS, NEW, NewEvent, PendingEvent
from rootstream_db.services.event_store.replay import Replayed
from rootstream_db.services.event_store.store import EventStore
from rootstream_db.services.event_store.upcasting import Upcasters
from rootstream_db.services.event_store.verification import Finding, Problem, Verification
from rootstream_db.services.event_store.wakeup import Wakeup
from rootstream_db.services.subject_keys import ERASED, Erased

__all__ = [
    "ERASED",
    "EXISTS",
    "NEW",
    "Aggregate",
    "Anchor",
    "AppenderStats",
    "AuditAppender",
    "Cursor",
    "Erased",
    "EventStore",
    "Finding",
    "LogHead",
    "NewEvent",
    "PendingEvent",
    "Problem",
    "RecordedEvent",
    "Replayed",
    "SnapshotPolicy",
    "StoredSnapshot",
    "Upcasters",
    "Verification",
    "Wakeup",
    "append_anchor",
    "read_anchors",
]
