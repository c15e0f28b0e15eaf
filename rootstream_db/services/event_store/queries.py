"""What readers ask for: the same question to the log's table and to the files of the archive.

Events may move from the table into files while somebody reads. A page of the table is whole if no
archive reaches beyond the place it begins at, looked up after the page was read: archives grow
from the beginning of the log, and a file is there before its events leave the table.
"""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from rootstream_db.errors import SyncError
from rootstream_db.repositories.event_archives import ArchivePart, EventArchiveRepository
from rootstream_db.repositories.events import EventRepository, RecordedEvent
from rootstream_db.services.event_archive.lines import StoredEvent
from rootstream_db.services.event_archive.reader import ArchiveReader
from rootstream_db.unit_of_work import UnitOfWork


class EventQuery(ABC):
    """Which events are wanted, and by which of their numbers they are counted."""

    counts_positions: ClassVar[bool] = True

    @abstractmethod
    def live(self, events: EventRepository, after: int, limit: int) -> Sequence[RecordedEvent]:
        """Return the next events of the table after a place."""

    @abstractmethod
    def archived(self, archives: EventArchiveRepository, after: int) -> ArchivePart | None:
        """Return the next file that may hold wanted events after a place."""

    @abstractmethod
    def wants(self, event: StoredEvent) -> bool:
        """Whether an archived event is one of those wanted."""

    def place(self, event: RecordedEvent | StoredEvent) -> int:
        """Return the number by which an event is counted."""
        return event.position if self.counts_positions else event.version


@dataclass(frozen=True, kw_only=True)
class LogQuery(EventQuery):
    """The events of the whole log, up to a position, of some types."""

    to_position: int | None = None
    types: Collection[str] | None = None

    def live(self, events: EventRepository, after: int, limit: int) -> Sequence[RecordedEvent]:
        """Return the next events of the table after a position."""
        return events.list_all(
            after_position=after, to_position=self.to_position, types=self.types, limit=limit
        )

    def archived(self, archives: EventArchiveRepository, after: int) -> ArchivePart | None:
        """Return the file that holds the event after a position."""
        if self.to_position is not None and after >= self.to_position:
            return None
        part = archives.find_after(after)
        if part is not None and part.archive.first_position > after + 1:
            raise SyncError(
                f"no archive holds the events {after + 1} to {part.archive.first_position - 1}: "
                "the manifest of the archive has a hole",
                position=after + 1,
            )
        return part

    def wants(self, event: StoredEvent) -> bool:
        """Whether it is of these types and not beyond the last position."""
        return (self.to_position is None or event.position <= self.to_position) and (
            self.types is None or event.event_type in self.types
        )


@dataclass(frozen=True, kw_only=True)
class AggregateQuery(EventQuery):
    """The events of one aggregate, up to a version."""

    counts_positions = False

    aggregate_type: str
    aggregate_id: str
    to_version: int | None = None

    def live(self, events: EventRepository, after: int, limit: int) -> Sequence[RecordedEvent]:
        """Return the next events of the table after a version."""
        return events.list_of_aggregate(
            self.aggregate_type,
            self.aggregate_id,
            after_version=after,
            to_version=self.to_version,
            limit=limit,
        )

    def archived(self, archives: EventArchiveRepository, after: int) -> ArchivePart | None:
        """Return the blocks with the aggregate's next events after a version."""
        if self.to_version is not None and after >= self.to_version:
            return None
        return archives.find_of_aggregate(
            self.aggregate_type, self.aggregate_id, after_version=after
        )

    def wants(self, event: StoredEvent) -> bool:
        """Whether it is of this aggregate and not beyond the last version."""
        return (
            event.aggregate_id == self.aggregate_id
            and event.aggregate_type == self.aggregate_type
            and (self.to_version is None or event.version <= self.to_version)
        )


@dataclass(frozen=True, kw_only=True)
class UserQuery(EventQuery):
    """What one user did, in a time, of some types."""

    user_id: int
    since: datetime | None = None
    until: datetime | None = None
    types: Collection[str] | None = None

    def live(self, events: EventRepository, after: int, limit: int) -> Sequence[RecordedEvent]:
        """Return the next events of the table after a position."""
        return events.list_of_user(
            self.user_id,
            after_position=after,
            since=self.since,
            until=self.until,
            types=self.types,
            limit=limit,
        )

    def archived(self, archives: EventArchiveRepository, after: int) -> ArchivePart | None:
        """Return the blocks with the user's next events after a position."""
        return archives.find_of_user(
            self.user_id, after_position=after, since=self.since, until=self.until
        )

    def wants(self, event: StoredEvent) -> bool:
        """Whether it is this user's, of these types, and was recorded in the time."""
        return (
            event.user_id == self.user_id
            and (self.since is None or event.recorded_at >= self.since)
            and (self.until is None or event.recorded_at < self.until)
            and (self.types is None or event.event_type in self.types)
        )


@dataclass(frozen=True, kw_only=True)
class SubjectQuery(EventQuery):
    """The events with personal data of one person."""

    subject_id: uuid.UUID

    def live(self, events: EventRepository, after: int, limit: int) -> Sequence[RecordedEvent]:
        """Return the next events of the table after a position."""
        return events.list_of_subject(self.subject_id, after_position=after, limit=limit)

    def archived(self, archives: EventArchiveRepository, after: int) -> ArchivePart | None:
        """Return the blocks with the next events about the person after a position."""
        return archives.find_of_subject(self.subject_id, after_position=after)

    def wants(self, event: StoredEvent) -> bool:
        """Whether it is about this person."""
        return event.subject_id == str(self.subject_id)


def fetch(
    query: EventQuery, unit: UnitOfWork, archive: ArchiveReader, *, after: int, limit: int
) -> Sequence[RecordedEvent] | ArchivePart:
    """Return the next page of the table, or the part of the archive that comes before it."""
    archives = EventArchiveRepository(unit.session)
    if query.counts_positions and after < archive.end:
        part = query.archived(archives, after)
        if part is not None:
            return part
    found = query.live(unit.events, after, limit)
    if found and query.place(found[0]) == after + 1:
        # The next number itself is still in the table: nothing can be missing before it.
        return found
    return query.archived(archives, after) or found


def archived_pages(
    query: EventQuery, archive: ArchiveReader, part: ArchivePart, *, after: int
) -> Generator[list[RecordedEvent], None, None]:
    """Yield the wanted events of a part of the archive, a block at a time."""
    return archive.pages(part, lambda event: query.place(event) > after and query.wants(event))
