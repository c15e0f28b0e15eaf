"""Events on their way into the log: what a caller hands in, and what waits in a unit of work."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

from rootstream_db.audit import AuditContext, current_audit_context
from rootstream_db.clock import Clock
from rootstream_db.correlation import current_correlation_id
from rootstream_db.errors import ValidationError
from rootstream_db.services.event_store.payload import check_number, check_text, encode, instant
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
    facts: Facts = field(repr=False)
    position: int | None = None
    version: int | None = None
    recorded_at: datetime | None = None
    duplicate: bool = False
    unsealed: Unsealed | None = field(default=None, repr=False)


class Facts(NamedTuple):
    """What else is written of an event; its data and metadata are JSON already."""

    schema_version: int
    data: bytes
    metadata: bytes
    user_id: int | None
    subject_id: uuid.UUID | None
    correlation_id: str | None
    causation_id: uuid.UUID | None
    occurred_at: datetime


def prepare(
    events: Iterable[NewEvent],
    aggregate: tuple[str, str],
    *,
    expected_version: int | None,
    now: datetime,
    clock: Clock,
    max_bytes: int,
    keys: SubjectKeys,
) -> list[PendingEvent]:
    """Check events and fix them in JSON, so that later changes of their dictionaries do not matter.

    Raises:
        ValidationError: one cannot be stored, or not be read back as it is.
    """
    _check_place(aggregate, expected_version)
    given = list(events)
    context, correlation_id = current_audit_context(), current_correlation_id()
    prepared = []
    for event, new_id in zip(given, new_event_ids(clock(), len(given)), strict=True):
        _check(event, correlation_id)
        user_id, metadata, origin = _audited(event, context)
        facts = Facts(
            event.schema_version,
            encode(event.data, "data", max_bytes=max_bytes),
            encode(metadata, "metadata", max_bytes=max_bytes) if metadata else b"{}",
            user_id,
            event.subject_id,
            event.correlation_id or correlation_id,
            event.causation_id,
            now if event.occurred_at is None else instant(event.occurred_at, "occurred_at"),
        )
        pending = PendingEvent(
            event.event_id or new_id, *aggregate, event.event_type, expected_version, facts
        )
        if event.personal or origin:
            pending.unsealed = unsealed(
                event, metadata, origin, actor_id=user_id, keys=keys, max_bytes=max_bytes
            )
        prepared.append(pending)
        # The rest follow the first: nobody can come between.
        expected_version = None
    return prepared


def new_event_ids(now: datetime, count: int) -> list[uuid.UUID]:
    """Return random ids that begin with the time: ids of one time lie close in the index.

    They are UUIDs of version 7 (RFC 9562): 48 bits of milliseconds, 74 random bits.
    """
    begin = int(now.timestamp() * 1000) << 80 | 0x7 << 76 | 0b10 << 62
    noise = os.urandom(10 * count)
    return [
        uuid.UUID(int=begin | (tail & 0xFFF) << 64 | (tail >> 12) & (2**62 - 1))
        for tail in (
            int.from_bytes(noise[start : start + 10], "big") for start in range(0, 10 * count, 10)
        )
    ]


def _audited(
    event: NewEvent, context: AuditContext | None
) -> tuple[int | None, dict[str, Any], dict[str, Any]]:
    """Return who did it, the metadata, and where the request came from, which is personal."""
    metadata = event.metadata or {}
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


def _check_place(aggregate: tuple[str, str], expected_version: int | None) -> None:
    _check_name("aggregate_type", aggregate[0])
    _check_name("aggregate_id", aggregate[1])
    if expected_version is None:
        return
    if expected_version < EXISTS:
        raise ValidationError(
            "expected_version is a version, NEW, EXISTS or None", field="expected_version"
        )
    check_number(expected_version, "expected_version")


def _check(event: NewEvent, correlation_id: str | None) -> None:
    _check_name("event_type", event.event_type)
    correlation_id = event.correlation_id or correlation_id
    if correlation_id is not None:
        _check_name("correlation_id", correlation_id)
    if event.schema_version not in _SCHEMA_VERSIONS:
        raise ValidationError(
            f"schema_version is a number from 1 to {_SCHEMA_VERSIONS[-1]}", field="schema_version"
        )
    if event.user_id is not None:
        check_number(event.user_id, "user_id")


def _check_name(name: str, value: str) -> None:
    length = _MAX_LENGTHS[name]
    if type(value) is str and 0 < len(value) <= length and value.isascii() and "\0" not in value:
        return
    check_text(value, name)
    if not 0 < len(value) <= length:
        raise ValidationError(f"{name} has 1 to {length} characters, not {len(value)}", field=name)
