"""Personal fields of events: sealed as they are written, opened when somebody asks for them.

They stand beside the data of an event, not in it, so that nothing that hands data on hands them on
unawares. In the log they are in the metadata: fields of the event under ``personal``, where a
request came from under ``audit.personal``; each sealed with the key of the person it is about.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

from rootstream_db.errors import ValidationError
from rootstream_db.repositories.events import RecordedEvent
from rootstream_db.security.subject_cipher import SubjectCipher
from rootstream_db.services.event_store.payload import encode, encode_fields
from rootstream_db.services.subject_keys import ERASED, SubjectKeys

if TYPE_CHECKING:
    from rootstream_db.services.event_store.pending import NewEvent, PendingEvent
    from rootstream_db.unit_of_work import UnitOfWork

PERSONAL: Final = "personal"
"""Name of what is sealed, in metadata and in ``metadata["audit"]``."""

AUDIT: Final = "audit"
"""Under this name ``personal_of`` tells where a request came from."""

ORIGIN: Final[Sequence[str]] = ("ip_address", "user_agent")
"""What the audit context knows that is personal."""

_SUBJECT: Final = "subject_id"


@dataclass(frozen=True, slots=True)
class Unsealed:
    """The personal part of an event that waits; in clear, in memory only.

    Attributes:
        fields: the event's own, as JSON.
        origin: where the request came from, as JSON.
        subject_id: whose ``fields`` are; None: those of ``user_id``.
        user_id: whom the event names as its user.
        actor_id: the user who acts; ``origin`` is theirs.
        metadata: the rest of the metadata, as JSON.
    """

    keys: SubjectKeys
    fields: Mapping[str, bytes] = field(repr=False)
    origin: Mapping[str, bytes] = field(repr=False)
    subject_id: uuid.UUID | None
    user_id: int | None
    actor_id: int | None
    metadata: bytes = field(repr=False)

    def seal(self, work: UnitOfWork, event: PendingEvent) -> None:
        """Put the sealed part into the record of the event; a unit tried again does so anew."""
        metadata = orjson.loads(self.metadata)
        subject_id = self.subject_id
        if self.fields:
            subject_id = subject_id or self._subject_of(work, self.user_id)
            metadata[PERSONAL] = self._sealed(work, event, self.fields, subject_id)
        if self.origin:
            audit = metadata.setdefault(AUDIT, {})
            audit |= self._sealed_origin(work, event, subject_id)
        event.facts = event.facts._replace(subject_id=subject_id, metadata=orjson.dumps(metadata))

    def _sealed_origin(
        self, work: UnitOfWork, event: PendingEvent, subject_id: uuid.UUID | None
    ) -> dict[str, Any]:
        actor = self._subject_of(work, self.actor_id)
        if actor is None and self.actor_id in {None, self.user_id}:
            # The account is gone, perhaps by this very unit; the event says whose it was.
            actor = subject_id
        if actor is None:
            # Nobody who could ask for an erasure: a machine, or an operator without an account.
            return {name: orjson.loads(value) for name, value in self.origin.items()}
        sealed = self._sealed(work, event, self.origin, actor, prefix=f"{AUDIT}.")
        return {PERSONAL: {_SUBJECT: str(actor), **sealed}}

    def _subject_of(self, work: UnitOfWork, user_id: int | None) -> uuid.UUID | None:
        return None if user_id is None else self.keys.subject_of(work, user_id)

    def _sealed(
        self,
        work: UnitOfWork,
        event: PendingEvent,
        fields: Mapping[str, bytes],
        subject_id: uuid.UUID | None,
        *,
        prefix: str = "",
    ) -> dict[str, str | None]:
        # Of somebody who is not there any more nothing is kept.
        cipher = None if subject_id is None else self.keys.for_sealing(work, subject_id)
        return {
            name: None if cipher is None else cipher.seal(value, event.event_id, prefix + name)
            for name, value in fields.items()
        }


def unsealed(
    event: NewEvent,
    metadata: dict[str, Any],
    origin: dict[str, Any],
    *,
    actor_id: int | None,
    keys: SubjectKeys,
    max_bytes: int,
) -> Unsealed:
    """Check the personal part of an event and fix it as it is.

    Raises:
        ValidationError: it cannot be stored and read back as it is, nothing says whose it is, or a
            field of that name is also in the data.
    """
    personal = event.personal or {}
    if personal and event.subject_id is None and event.user_id is None:
        raise ValidationError(
            "personal data belongs to somebody: give subject_id or user_id", field="subject_id"
        )
    for name in personal:
        if name == AUDIT or name in event.data:
            raise ValidationError(
                f"{name!r} cannot be a personal field: data or the store uses the name",
                field=PERSONAL,
            )
    return Unsealed(
        keys=keys,
        fields=encode_fields(personal, PERSONAL, max_bytes=max_bytes),
        origin=encode_fields(origin, AUDIT, max_bytes=max_bytes),
        subject_id=event.subject_id,
        user_id=event.user_id,
        actor_id=actor_id,
        metadata=encode(metadata, "metadata", max_bytes=max_bytes),
    )


def open_personal(
    events: Iterable[RecordedEvent], keys: SubjectKeys, work: UnitOfWork | None
) -> list[dict[str, Any]]:
    """Return the personal fields of each event, opened; see ``EventStore.personal_of``."""
    parts = [_Sealed.of(event) for event in events]
    wanted = {subject for part in parts for subject in (part.subject_id, part.actor_id) if subject}
    ciphers = keys.for_opening(wanted, work) if wanted else {}
    return [part.open(ciphers) for part in parts]


@dataclass(frozen=True, slots=True)
class _Sealed:
    """The sealed part of a recorded event."""

    event_id: uuid.UUID
    fields: Mapping[str, str | None]
    subject_id: uuid.UUID | None
    origin: Mapping[str, str | None]
    actor_id: uuid.UUID | None
    clear: Mapping[str, Any]

    @classmethod
    def of(cls, event: RecordedEvent) -> _Sealed:
        """Find it in the metadata."""
        audit = event.metadata.get(AUDIT) or {}
        origin = dict(audit.get(PERSONAL) or {})
        actor = origin.pop(_SUBJECT, None)
        return cls(
            event_id=event.event_id,
            fields=event.metadata.get(PERSONAL) or {},
            subject_id=event.subject_id,
            origin=origin,
            actor_id=uuid.UUID(actor) if actor else None,
            clear={name: audit[name] for name in ORIGIN if name in audit},
        )

    def open(self, ciphers: Mapping[uuid.UUID, SubjectCipher | None]) -> dict[str, Any]:
        """Return the fields in clear, or ``ERASED`` for each that is not there any more."""
        own = ciphers.get(self.subject_id) if self.subject_id else None
        opened = {name: self._opened(own, name, value) for name, value in self.fields.items()}
        if self.origin or self.clear:
            actor = ciphers.get(self.actor_id) if self.actor_id else None
            opened[AUDIT] = dict(self.clear) | {
                name: self._opened(actor, f"{AUDIT}.{name}", value)
                for name, value in self.origin.items()
            }
        return opened

    def _opened(self, cipher: SubjectCipher | None, path: str, value: str | None) -> Any:
        if cipher is None or value is None:
            return ERASED
        return orjson.loads(cipher.open(value, self.event_id, path))
