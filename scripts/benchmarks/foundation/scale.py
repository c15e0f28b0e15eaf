"""How much of everything is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is measured.

    Attributes:
        rounds: turns of each rival.
        operations: small operations in a turn; slower ones are done in proportion.
        seconds_held: how long the fixed rate of viewer updates is held.
        rate_held: that rate.
        seconds_fair: how long each turn of the crowd on the pool takes.
        rounds_fair: turns of each pool.
    """

    rounds: int
    operations: int
    seconds_held: float
    rate_held: int = 10_000
    seconds_fair: float
    rounds_fair: int


FULL = Scale(rounds=41, operations=200, seconds_held=30, seconds_fair=5, rounds_fair=5)
QUICK = Scale(rounds=9, operations=100, seconds_held=5, seconds_fair=1, rounds_fair=3)
