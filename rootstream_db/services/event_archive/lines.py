"""An archived event: from the text its hash is made of back to what a reader gets."""

from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import orjson

from rootstream_db.repositories.event_proofs import ProvenRow
from rootstream_db.repositories.events import RecordedEvent
from rootstream_db.services.event_archive.framing import DamagedError, Line

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NOWHERE: Final = datetime.min.replace(tzinfo=UTC)


class StoredEvent(NamedTuple):
    """The fields of a line, in the order of the parameters of ``event_row_hash``.

    Cheaper than the event itself, for readers that want one of a thousand.
    """

    log_id: int
    position: int
    event_id: str
    aggregate_type: str
    aggregate_id: str
    version: int
    event_type: str
    schema_version: int
    data: dict[str, Any]
    metadata: dict[str, Any]
    user_id: int | None
    subject_id: str | None
    correlation_id: str | None
    causation_id: str | None
    occurred_microseconds: int
    recorded_microseconds: int

    @classmethod
    def of(cls, text: bytes) -> StoredEvent:
        """Return what a line holds.

        Raises:
            DamagedError: it holds no event.
        """
        try:
            return cls(*orjson.loads(text))
        except (ValueError, TypeError) as error:
            raise DamagedError("has a line that is no event") from error

    @property
    def recorded_at(self) -> datetime:
        """When it was recorded."""
        return _EPOCH + timedelta(microseconds=self.recorded_microseconds)

    def recorded(self) -> RecordedEvent:
        """Return the event as a reader gets it."""
        return RecordedEvent(
            position=self.position,
            version=self.version,
            event_id=uuid.UUID(self.event_id),
            aggregate_type=self.aggregate_type,
            aggregate_id=self.aggregate_id,
            event_type=self.event_type,
            schema_version=self.schema_version,
            data=self.data,
            metadata=self.metadata,
            user_id=self.user_id,
            subject_id=_uuid(self.subject_id),
            correlation_id=self.correlation_id,
            causation_id=_uuid(self.causation_id),
            occurred_at=_EPOCH + timedelta(microseconds=self.occurred_microseconds),
            recorded_at=self.recorded_at,
        )


def proof_of(line: Line, *, position: int) -> ProvenRow:
    """Return the line that ought to hold a position, held against its own hash."""
    if hashlib.sha256(line.text).digest() == line.row_hash:
        try:
            stored = StoredEvent.of(line.text)
            if stored.position == position:
                return ProvenRow(position, line.row_hash, stored.recorded_at, holds=True)
        except (DamagedError, TypeError, OverflowError):
            # Its own hash it has, and yet it is no event that the database ever wrote.
            pass
    return ProvenRow(position, line.row_hash, _NOWHERE, holds=False)


def _uuid(text: str | None) -> uuid.UUID | None:
    return None if text is None else uuid.UUID(text)
