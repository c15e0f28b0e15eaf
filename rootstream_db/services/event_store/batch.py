"""Turn pending events into the columns that one call of ``append_events`` takes, and back."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from rootstream_db.errors import ValidationError
from rootstream_db.repositories.event_batches import EventBatch, Placed
from rootstream_db.services.event_store.pending import PendingEvent


class _Columns(NamedTuple):
    """The fields of ``Facts``, each with the values of all events."""

    schema_version: Sequence[int]
    data: Sequence[bytes]
    metadata: Sequence[bytes]
    user_id: Sequence[int | None]
    subject_id: Sequence[uuid.UUID | None]
    correlation_id: Sequence[str | None]
    causation_id: Sequence[uuid.UUID | None]
    occurred_at: Sequence[datetime]


def batch_of(pending: Sequence[PendingEvent]) -> EventBatch:
    """Return the columns of events, in order; what all of them have in common comes once.

    Raises:
        ValidationError: two of the events have the same id.
    """
    event_ids = [event.event_id for event in pending]
    if len(set(event_ids)) < len(event_ids):
        raise ValidationError("an event id is used twice in this unit of work", field="event_id")
    firsts, counts = _entries(pending)
    columns: Any = zip(*(event.facts for event in pending), strict=True)
    facts = _Columns(*columns)
    return EventBatch(
        types=_texts([event.aggregate_type for event in firsts]),
        ids=_texts([event.aggregate_id for event in firsts]),
        expected=_array([event.expected_version for event in firsts]),
        counts=_array(counts),
        event_ids=_array(event_ids),
        event_types=_texts(_common([event.event_type for event in pending])),
        schema_versions=_array(_common(facts.schema_version)),
        data=_documents(_common(facts.data)),
        metadata=_documents(_common(facts.metadata)),
        user_ids=_array(_common(facts.user_id)),
        subject_ids=_array(_common(facts.subject_id)),
        correlation_ids=_texts(_common(facts.correlation_id)),
        causation_ids=_array(_common(facts.causation_id)),
        occurred_at=_array(_common(facts.occurred_at)),
    )


def put(pending: Iterable[PendingEvent], places: Iterable[Placed]) -> None:
    """Tell the events of a batch where they stand."""
    waiting = iter(pending)
    for events, position, version, recorded_at, duplicate in places:
        for step in range(events):
            event = next(waiting)
            event.position = position + step
            event.version = version + step
            event.recorded_at = recorded_at
            event.duplicate = duplicate


def _entries(pending: Sequence[PendingEvent]) -> tuple[list[PendingEvent], list[int]]:
    """Return the first event of each run of one aggregate, and how many follow one another."""
    firsts: list[PendingEvent] = []
    counts: list[int] = []
    kind = name = None
    for event in pending:
        here = event.aggregate_type == kind and event.aggregate_id == name
        if here and event.expected_version is None:
            counts[-1] += 1
        else:
            firsts.append(event)
            counts.append(1)
            kind, name = event.aggregate_type, event.aggregate_id
    return firsts, counts


def _common(values: Any) -> Any:
    """Return one value if all are the same: the function takes it for all of them."""
    return values[:1] if values.count(values[0]) == len(values) else values


def _array(values: Sequence[object]) -> str:
    """Return an array as PostgreSQL writes it; JSON differs in the brackets only, but for text.

    Ids and times of classes that libraries derive from Python's own are written by themselves.
    """
    return f"{{{orjson.dumps(values, default=str).decode()[1:-1]}}}"


def _texts(values: Sequence[str | None]) -> str:
    """Return an array of text, where a backslash stands for nothing but the next character."""
    return f"{{{','.join(map(_text, values))}}}"


def _text(value: str | None) -> str:
    if value is None:
        return "NULL"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _documents(values: Sequence[bytes]) -> str:
    """Return JSON objects as one array, or the only one of them as it is."""
    if len(values) == 1:
        return values[0].decode()
    return f"[{b','.join(values).decode()}]"
