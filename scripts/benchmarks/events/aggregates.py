"""Loading an aggregate, from its snapshot and from its first event."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, Final

from rootstream_db import RootStream
from rootstream_db.services.event_store import (
    Aggregate,
    EventStore,
    RecordedEvent,
    SnapshotPolicy,
)
from scripts.benchmarks.contest import Rival, compete
from scripts.benchmarks.events.log import append
from scripts.benchmarks.events.scale import Scale
from scripts.benchmarks.report import Report, Total

AIMS: Final = {100: 1.3, 1000: None}
"""The least of the rate without a snapshot, by events of the aggregate."""

FEWER: Final = {100: 1, 1000: 5}
KEPT, REPLAYED = "BenchmarkKept", "BenchmarkReplayed"


def measure(rootstream: RootStream, scale: Scale, report: Report) -> None:
    """Measure aggregates of each length; both ways must come to the same state."""
    events = EventStore(rootstream.database)
    initial = {"events": 0, "viewers": 0, "nodes": {}}
    events.register(KEPT, Aggregate(apply=_apply, initial=initial))
    never = SnapshotPolicy(every=2**62)
    events.register(REPLAYED, Aggregate(apply=_apply, initial=initial, policy=never))
    for length, aim in AIMS.items():
        name = f"{length}-{uuid.uuid4()}"
        for kind in (KEPT, REPLAYED):
            for _ in range(length // 100):
                append(rootstream, (kind, name), 100, events=events)
        rows = compete(
            [
                Rival("load with snapshot", _loads(events, KEPT, name)),
                Rival("load without", _loads(events, REPLAYED, name), aim),
            ],
            rounds=scale.rounds,
            operations=max(scale.loads // FEWER[length], 2),
        )
        title = f"aggregate of {length:,} events"
        report.add_contest(title, rows, "a snapshot every 100 events by policy: none is left over")
        _check(events, report, name, length)


def _check(events: EventStore, report: Report, name: str, length: int) -> None:
    kept, replayed = events.load(KEPT, name), events.load(REPLAYED, name)
    snapshot = events.get_latest_snapshot(KEPT, name)
    none = events.get_latest_snapshot(REPLAYED, name)
    title = f"aggregate of {length:,} events"
    report.totals += [
        Total(f"{title}: states differ", False, kept != replayed),
        Total(f"{title}: events in the state", length, kept.state["events"]),
        Total(
            f"{title}: versions of the snapshots",
            (length, None),
            (snapshot and snapshot.version, none and none.version),
        ),
    ]


def _apply(state: dict[str, Any], event: RecordedEvent) -> dict[str, Any]:
    state["events"] += 1
    state["viewers"] = max(state["viewers"], event.data["viewers"])
    nodes = state["nodes"]
    nodes[event.data["node"]] = nodes.get(event.data["node"], 0) + 1
    return state


def _loads(events: EventStore, kind: str, name: str) -> Callable[[int], None]:
    def run(count: int) -> None:
        for _ in range(count):
            events.load(kind, name)

    return run
