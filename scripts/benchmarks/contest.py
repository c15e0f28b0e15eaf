"""Let rivals do the same work in turns, so that other work of the machine slows all alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

WARM_UP = 12
"""Operations before each turn is timed: psycopg prepares a statement at its sixth use."""


@dataclass(frozen=True)
class Rival:
    """One way to do the work.

    Attributes:
        name: how the table calls it.
        run: does the work that many times.
        aim: the least that ours should reach of this rival's rate.
        renew: takes new connections, before each turn: on which core a connection's server process
            lands, and who else works there, can double a rate. Over the rounds it evens out.
    """

    name: str
    run: Callable[[int], object]
    aim: float | None = None
    renew: Callable[[], object] = lambda: None


@dataclass
class Turns:
    """What one rival's turns took."""

    rates: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def take(self, rival: Rival, operations: int) -> None:
        """Let the rival have a turn."""
        rival.renew()
        rival.run(WARM_UP)
        processor, started = time.process_time(), time.perf_counter()
        rival.run(operations)
        self.rates.append(operations / (time.perf_counter() - started))
        self.processor.append((time.process_time() - processor) / operations)


def compete(rivals: Sequence[Rival], *, rounds: int, operations: int) -> list[dict[str, Any]]:
    """Return a row for each rival, the first of whom is ours.

    Ratios are medians over the rounds: the two turns of one round are moments apart.
    """
    turns = [Turns() for _ in rivals]
    for rival in rivals:
        rival.run(operations)  # caches in this process
    gc.collect()
    for number in range(rounds):
        for place in range(len(rivals)):
            index = (place + number) % len(rivals)
            turns[index].take(rivals[index], operations)
    return [_row(rival, own, turns[0]) for rival, own in zip(rivals, turns, strict=True)]


def _row(rival: Rival, turns: Turns, ours: Turns) -> dict[str, Any]:
    ratios = [mine / theirs for mine, theirs in zip(ours.rates, turns.rates, strict=True)]
    return {
        "who": rival.name,
        "per second": median(turns.rates),
        "client CPU µs": median(turns.processor) * 1e6,
        "ours ÷ this": None if turns is ours else median(ratios),
        "aim": rival.aim,
    }
