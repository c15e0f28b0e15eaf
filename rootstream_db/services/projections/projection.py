"""What a projection is: the events it wants, and what they do to its read model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rootstream_db.repositories.events import RecordedEvent
from rootstream_db.unit_of_work import UnitOfWork


class Projection:
    """A read model made of events: define ``apply`` or ``apply_batch``, and ``reset``.

    What they write through ``work`` is committed together with the place reached in the log, so
    every event counts exactly once. What they do elsewhere may happen more than once.

    Attributes:
        name: names the checkpoint for ever.
        types: event types wanted; None: all.
    """

    name: ClassVar[str]
    types: ClassVar[frozenset[str] | None] = None

    def apply(self, work: UnitOfWork, event: RecordedEvent) -> None:
        """Bring the read model up to date with one event."""
        raise NotImplementedError(f"{type(self).__name__} says neither apply nor apply_batch")

    def apply_batch(self, work: UnitOfWork, events: Sequence[RecordedEvent]) -> None:
        """Bring the read model up to date with several events, in order."""
        for event in events:
            self.apply(work, event)

    def reset(self, work: UnitOfWork) -> None:
        """Empty the read model, before it is made anew."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it is emptied")
