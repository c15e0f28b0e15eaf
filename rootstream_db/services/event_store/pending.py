"""Events on their way into the log: what a caller hands in, and what waits in a unit of work."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson

from rootstream_db.audit import current_audit_context
from rootstream_db.clock import Clock
from rootstream_db.correlation import current_correlation_id
from rootstream_db.errors import ValidationError
from rootstream_db.repositories.events import AppendedEvent
from rootstream_db.services.event_store.payload import check_text, check_time, encode
from rootstream_db.services.event_store.personal import ORIGIN, PERSONAL, Unsealed, unsealed
from rootstream_db.services.subject_keys import SubjectKeys

EXISTS: Final = -1
"""Expected version of an aggregate that must have events, however many."""

NEW: Final = 0
"""Expected version of an aggregate that must have no events yet."""

_MAX_LENGTHS: Final = {
    "aggregate_type": 100,
    "aggregate_id": 200,
    "event_type": 100,
    "correlation_id": 200,
}
_SCHEMA_VERSIONS: Final = range(1, 2**15)


@dataclass(frozen=True, kw_only=True, slots=True)
class NewEvent:
    """Something that happened, for ``EventStore.append_many``; what is left out has a default.

    Attributes:
        event_id: names the event for ever; give your own to make a retry harmless.
        data: what happened, a JSON object.
        personal: what it says about a person, field by field: sealed with the key of
            ``subject_id``, or of the account ``user_id``; read with ``EventStore.personal_of``.
        metadata: circumstances that are not part of it.
        schema_version: the form of ``data``; raise it when the form changes.
        user_id: who did it; ``audit_trail`` finds it. Inside ``audit.acting`` it is who acts, and
            another one given here is kept in the metadata, as ``audit.owner_user_id``.
        subject_id: whose personal data it holds.
        correlation_id: ties it to a request; default: the one of ``correlation``.
        causation_id: the event that made it happen.
        occurred_at: when it happened, if that is not now.
    """

    event_type: str
    data: dict[str, Any] = field(repr=False)
    personal: dict[str, Any] | None = field(default=None, repr=False)
    metadata: dict[str, Any] | None = field(default=None, repr=False)
    schema_version: int = 1
    event_id: uuid.UUID | None = None
    user_id: int | None = None
    subject_id: uuid.UUID | None = None
    correlation_id: str | None = None
    causation_id: uuid.UUID | None = None
    occurred_at: datetime | None = None


@dataclass(slots=True, eq=False)
class PendingEvent:
    """An event that is written when its unit of work commits.

    ``position``, ``version`` and ``recorded_at`` are None until then; after it they tell where the
    event stands, and ``duplicate`` whether it stood there already.
    """

    event_id: uuid.UUID
    aggregate_type: str
    aggregate_id: str
    event_type: str
    expected_version: int | None
    record: dict[str, object] = field(repr=False)
    position: int | None = None
    version: int | None = None
    recorded_at: datetime | None = None
    duplicate: bool = False
    unsealed: Unsealed | None = field(default=None, repr=False)

    def put(self, place: AppendedEvent) -> None:
        """Tell the event where it stands."""
        self.position = place.position
        self.version = place.version
        self.recorded_at = place.recorded_at
        self.duplicate = place.duplicate


def prepare(
    event: NewEvent,
    aggregate: tuple[str, str],
    *,
    expected_version: int | None,
    now: datetime,
    clock: Clock,
    max_bytes: int,
    keys: SubjectKeys,
) -> PendingEvent:
    """Check an event and fix it in JSON, so that later changes of its dictionaries do not matter.

    Raises:
        ValidationError: it cannot be stored, or not be read back as it is.
    """
    correlation_id = event.correlation_id or current_correlation_id()
    _check_names(
        aggregate_type=aggregate[0],
        aggregate_id=aggregate[1],
        event_type=event.event_type,
        correlation_id=correlation_id,
    )
    _check_numbers(event.schema_version, expected_version)
    occurred_at = event.occurred_at or now
    check_time(occurred_at, "occurred_at")
    event_id = event.event_id or new_event_id(clock())
    user_id, metadata, origin = _audited(event)
    record = {
        "event_id": event_id,
        "event_type": event.event_type,
        "schema_version": event.schema_version,
        "data": orjson.Fragment(encode(event.data, "data", max_bytes=max_bytes)),
        "metadata": orjson.Fragment(encode(metadata, "metadata", max_bytes=max_bytes)),
        "user_id": user_id,
        "subject_id": event.subject_id,
        "correlation_id": correlation_id,
        "causation_id": event.causation_id,
        "occurred_at": occurred_at,
    }
    pending = PendingEvent(event_id, *aggregate, event.event_type, expected_version, record)
    if event.personal or origin:
        pending.unsealed = unsealed(
            event, metadata, origin, actor_id=user_id, keys=keys, max_bytes=max_bytes
        )
    return pending


def batch_of(pending: Sequence[PendingEvent]) -> bytes:
    """Return the batch ``append_events`` takes: runs of events of one aggregate, in order.

    Raises:
        ValidationError: two of the events have the same id.
    """
    if len({event.event_id for event in pending}) < len(pending):
        raise ValidationError("an event id is used twice in this unit of work", field="event_id")
    entries: list[dict[str, Any]] = []
    for event in pending:
        here = (event.aggregate_type, event.aggregate_id)
        last = entries[-1] if entries else None
        if event.expected_version is None and last and here == (last["type"], last["id"]):
            last["events"].append(event.record)
        else:
            entries.append(
                {
                    "type": here[0],
                    "id": here[1],
                    "expected": event.expected_version,
                    "events": [event.record],
                }
            )
    return orjson.dumps(entries)


def new_event_id(now: datetime) -> uuid.UUID:
    """Return a random id that begins with the time, so that ids of one time lie close in the index.

    It is a UUID of version 7 (RFC 9562): 48 bits of milliseconds, 74 random bits.
    """
    milliseconds = int(now.timestamp() * 1000)
    tail = secrets.randbits(74)
    return uuid.UUID(
        int=milliseconds << 80 | 0x7 << 76 | (tail >> 62) << 64 | 0b10 << 62 | tail & (2**62 - 1)
    )


def _audited(event: NewEvent) -> tuple[int | None, dict[str, Any], dict[str, Any]]:
    """Return who did it, the metadata, and where the request came from, which is personal."""
    context, metadata = current_audit_context(), event.metadata or {}
    if PERSONAL in metadata:
        raise ValidationError(
            f"the store itself uses {PERSONAL!r} in metadata: name personal fields as such",
            field=f"metadata.{PERSONAL}",
        )
    if context is None:
        return event.user_id, metadata, {}
    facts = context.facts()
    origin = {name: facts.pop(name) for name in ORIGIN if name in facts}
    if context.user_id not in {None, event.user_id} and event.user_id is not None:
        facts["owner_user_id"] = event.user_id
    user_id = event.user_id if context.user_id is None else context.user_id
    return user_id, {**metadata, "audit": facts} if facts else metadata, origin


def _check_names(**names: str | None) -> None:
    for name, value in names.items():
        if value is None and name == "correlation_id":
            continue
        check_text(value, name)
        if not value or len(value) > _MAX_LENGTHS[name]:
            raise ValidationError(
                f"{name} has 1 to {_MAX_LENGTHS[name]} characters, not {len(value or '')}",
                field=name,
            )


def _check_numbers(schema_version: int, expected_version: int | None) -> None:
    if schema_version not in _SCHEMA_VERSIONS:
        raise ValidationError(
            f"schema_version is a number from 1 to {_SCHEMA_VERSIONS[-1]}", field="schema_version"
        )
    if expected_version is not None and expected_version < EXISTS:
        raise ValidationError(
            "expected_version is a version, NEW, EXISTS or None", field="expected_version"
        )
