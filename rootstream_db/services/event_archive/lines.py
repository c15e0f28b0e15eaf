"""An archived event: from the text its hash is made of back to what a reader gets."""

from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from rootstream_db.repositories.event_proofs import ProvenRow
from rootstream_db.repositories.events import RecordedEvent
from rootstream_db.services.event_archive.framing import DamagedError, Line

_FIELDS: Final = 16
"""Parameters of the function ``event_row_hash``; a line is a JSON array of them."""

_POSITION: Final = 1
_RECORDED_AT: Final = 15
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NOWHERE: Final = datetime.min.replace(tzinfo=UTC)


def event_of(text: bytes) -> RecordedEvent:
    """Return the event that a line holds.

    Raises:
        DamagedError: it holds none.
    """
    found = _fields(text)
    try:
        return RecordedEvent(
            position=found[_POSITION],
            version=found[5],
            event_id=uuid.UUID(found[2]),
            aggregate_type=found[3],
            aggregate_id=found[4],
            event_type=found[6],
            schema_version=found[7],
            data=found[8],
            metadata=found[9],
            user_id=found[10],
            subject_id=_uuid(found[11]),
            correlation_id=found[12],
            causation_id=_uuid(found[13]),
            occurred_at=_moment(found[14]),
            recorded_at=_moment(found[_RECORDED_AT]),
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise DamagedError("has a line that is no event") from error


def proof_of(line: Line, *, position: int) -> ProvenRow:
    """Return the line that ought to hold a position, held against its own hash."""
    if hashlib.sha256(line.text).digest() == line.row_hash:
        try:
            found = _fields(line.text)
        except DamagedError:
            found = []
        if found and found[_POSITION] == position:
            return ProvenRow(position, line.row_hash, _moment(found[_RECORDED_AT]), holds=True)
    return ProvenRow(position, line.row_hash, _NOWHERE, holds=False)


def _fields(text: bytes) -> list[Any]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise DamagedError("has a line that is not JSON") from error
    if not isinstance(found, list) or len(found) != _FIELDS:
        raise DamagedError("has a line that is no event")
    return found


def _uuid(text: str | None) -> uuid.UUID | None:
    return None if text is None else uuid.UUID(text)


def _moment(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
