"""Aggregates the store knows the rules of: loaded by name, with snapshots taken by policy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from rootstream_db.database import Database
from rootstream_db.errors import ConflictError, NotFoundError, ValidationError
from rootstream_db.repositories.events import RecordedEvent
from rootstream_db.services.event_archive.reader import ArchiveReader
from rootstream_db.services.event_store.pending import PendingEvent
from rootstream_db.services.event_store.replay import EventReplayer, Replayed
from rootstream_db.services.event_store.wakeup import Wakeup
from rootstream_db.unit_of_work import UnitOfWork

Reducer = Callable[[dict[str, Any], RecordedEvent], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class SnapshotPolicy:
    """When to take a snapshot of an aggregate.

    Attributes:
        every: each time so many more events are stored.
        bytes: also when the data of the events since the last snapshot is so long; asking for it
            costs a query after every commit.
    """

    every: int = 100
    bytes: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is no number of events, or of bytes."""
        for name in ("every", "bytes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValidationError(f"{name} of a snapshot policy is at least 1", field=name)

    def is_due(self, before: int, after: int) -> bool:
        """Whether enough events led from one version to another."""
        return after // self.every > before // self.every


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """The rules of a kind of aggregate: what its events add up to, and when to keep that."""

    apply: Reducer
    initial: dict[str, Any] = field(default_factory=dict)
    state_schema: int = 1
    policy: SnapshotPolicy = field(default_factory=SnapshotPolicy)


class AggregateLoader(EventReplayer):
    """Loads aggregates whose rules it was told."""

    def __init__(
        self,
        database: Database,
        *,
        wakeup: Wakeup | None = None,
        archive: ArchiveReader | None = None,
    ) -> None:
        super().__init__(database, wakeup=wakeup, archive=archive)
        self._aggregates: dict[str, Aggregate] = {}

    def register(self, aggregate_type: str, aggregate: Aggregate) -> None:
        """Tell the rules of a kind of aggregate.

        From now on this process takes snapshots of what it appends to, after the commit. A failure
        is logged and harms nobody. Raise ``state_schema`` with every change of the rules: snapshots
        of other rules are left aside.

        Raises:
            ConflictError: they were told before.
        """
        if aggregate_type in self._aggregates:
            raise ConflictError(f"the rules of {aggregate_type} are registered already")
        self._aggregates[aggregate_type] = aggregate

    def load(
        self,
        aggregate_type: str,
        aggregate_id: str,
        *,
        to_version: int | None = None,
        to_time: datetime | None = None,
        work: UnitOfWork | None = None,
    ) -> Replayed[dict[str, Any]]:
        """Return the state of an aggregate by its registered rules; see ``replay``.

        Raises:
            NotFoundError: no rules are registered for its kind.
        """
        aggregate = self._aggregates.get(aggregate_type)
        if aggregate is None:
            raise NotFoundError("Aggregate", aggregate_type)
        return self.replay(
            aggregate_type,
            aggregate_id,
            aggregate.apply,
            # Rules may change the state they are given.
            deepcopy(aggregate.initial),
            to_version=to_version,
            to_time=to_time,
            state_schema=aggregate.state_schema,
            work=work,
        )

    def plan_snapshots(self, work: UnitOfWork, events: Iterable[PendingEvent]) -> None:
        """Have snapshots taken after the commit where the events make one due."""
        known = [event for event in events if event.aggregate_type in self._aggregates]
        if known:
            work.after_commit(partial(self._take_due, known), name="snapshots")

    def _take_due(self, events: Iterable[PendingEvent]) -> None:
        stored: dict[tuple[str, str], list[int]] = {}
        for event in events:
            if event.version is not None and not event.duplicate:
                key = (event.aggregate_type, event.aggregate_id)
                stored.setdefault(key, []).append(event.version)
        for key, versions in stored.items():
            aggregate = self._aggregates[key[0]]
            due = aggregate.policy.is_due(min(versions) - 1, max(versions))
            if due or self._is_long(key, aggregate):
                state, version = self.load(*key)
                self.create_snapshot(*key, state, version, state_schema=aggregate.state_schema)

    def _is_long(self, key: tuple[str, str], aggregate: Aggregate) -> bool:
        """Whether replay from the last snapshot reads as many bytes as the policy allows."""
        limit = aggregate.policy.bytes
        if limit is None:
            return False
        snapshot = self.get_latest_snapshot(*key, state_schema=aggregate.state_schema)
        after = 0 if snapshot is None else snapshot.version
        with self._reading(None) as unit:
            length, first = unit.events.count_bytes(*key, after_version=after)
        if length < limit and first != after + 1:
            last = None if first is None else first - 1
            length += sum(
                _length(event.data)
                for event in self.read(*key, after_version=after, to_version=last)
            )
        return length >= limit


def _length(data: dict[str, Any]) -> int:
    """Return the length of JSON as PostgreSQL writes it, with a space after commas and colons."""
    return len(json.dumps(data, ensure_ascii=False).encode())
