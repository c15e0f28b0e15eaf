"""How much of everything is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is measured.

    Attributes:
        rounds: turns of each rival.
        operations: validations in a turn; slower operations are done in proportion.
        sessions: sessions that are used in turns.
        touches: uses of each session that are written down.
        revocations: sessions that another process watches end, one after the other.
        seconds_mixed: how long the mixture runs, for each number of threads.
    """

    rounds: int
    operations: int
    sessions: int
    touches: int
    revocations: int
    seconds_mixed: float


FULL = Scale(
    rounds=25, operations=400, sessions=2000, touches=10, revocations=500, seconds_mixed=10
)
QUICK = Scale(rounds=7, operations=200, sessions=500, touches=4, revocations=100, seconds_mixed=3)
