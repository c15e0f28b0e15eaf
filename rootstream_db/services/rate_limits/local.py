"""What a process counts by itself while Redis is down."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

from rootstream_db.services.rate_limits.gcra import Rule, State, Verdict, decide

MOST_SUBJECTS: Final = 10_000
"""Subjects one process remembers; beyond it the one seen longest ago is forgotten."""


class LocalCounters:
    """The states of the subjects that called this process lately."""

    def __init__(self, *, most: int = MOST_SUBJECTS) -> None:
        self._most = most
        self._states: OrderedDict[str, State] = OrderedDict()
        self._lock = threading.Lock()

    def decide(self, key: str, rule: Rule, *, now: int, cost: int) -> Verdict:
        """Return what the rule says of a call, and remember it."""
        with self._lock:
            state, verdict = decide(rule, self._states.get(key, State()), now=now, cost=cost)
            self._states[key] = state
            self._states.move_to_end(key)
            while len(self._states) > self._most:
                self._states.popitem(last=False)
        return verdict
