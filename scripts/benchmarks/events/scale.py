"""How much of everything is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is measured.

    Attributes:
        rounds: turns of each rival that appends or loads.
        calls: appending calls of one event in a turn; larger calls are fewer.
        sizes: events an appending call has.
        writers: processes that append at once.
        rounds_writing: turns of each number of writers.
        events_writing: events they append in a turn, all together.
        events_read: events the log has at least when it is read and verified.
        rounds_reading: turns of each reader, and of the verifier.
        loads: loads of an aggregate of 100 events in a turn.
    """

    rounds: int
    calls: int
    sizes: tuple[int, ...] = (1, 100, 1000)
    writers: int = 16
    rounds_writing: int
    events_writing: int
    events_read: int
    rounds_reading: int
    loads: int


FULL = Scale(
    rounds=15,
    calls=100,
    rounds_writing=7,
    events_writing=1600,
    events_read=1_000_000,
    rounds_reading=3,
    loads=60,
)
QUICK = Scale(
    rounds=7,
    calls=40,
    rounds_writing=3,
    events_writing=800,
    events_read=20_000,
    rounds_reading=3,
    loads=30,
)
