"""Reading the whole log in a process of its own: how fast, and in how much memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any, Final

from rootstream_db import RootStream
from scripts.benchmarks.events.log import fill
from scripts.benchmarks.events.scale import Scale
from scripts.benchmarks.foundation.rows import address
from scripts.benchmarks.report import Aim, Report, Table, Total

ROOT: Final = Path(__file__).resolve().parents[3]
WAYS: Final = {
    "payloads": "read_all, payloads decoded",
    "places": "read_all, only positions looked at",
    "plain": "psycopg, the same pages as tuples",
    "orjson": "the same, with orjson",
}
RIVALS: Final = ("plain", "orjson")
RATE_AIM: Final = 100_000.0
MEMORY_AIM: Final = 80.0


def measure(rootstream: RootStream, scale: Scale, report: Report) -> None:
    """Measure each way in turns, a new process each time."""
    count = fill(rootstream, scale.events_read)
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for _ in range(scale.rounds_reading):
        for way, found in runs.items():
            found.append(_read(way, address(rootstream)))
    for way, found in runs.items():
        # Positions are dense: every one of them once makes this sum.
        expected = [(count, count * (count + 1) // 2)]
        sums = sorted({(run["events"], run["sum"]) for run in found})
        report.totals.append(
            Total(f"read: events and sum of positions, {WAYS[way]}", expected, sums)
        )
    title = f"read {count:,} events"
    report.tables.append(
        Table(
            title,
            [
                {
                    "who": WAYS[way],
                    "events per second": _middle(found, "rate"),
                    "client CPU µs an event": _middle(found, "cpu") * 1e6,
                    "peak MiB": _middle(found, "peak"),
                    "MiB before": _middle(found, "before"),
                    "ours ÷ this": _ratio(runs, way) if way in RIVALS else None,
                }
                for way, found in runs.items()
            ],
            [
                "a process of its own each time; before: everything imported and connected",
                "ours: with payloads decoded, as the tuples have them",
            ],
        )
    )
    for way in ("payloads", "places"):
        named = f"{title}, {WAYS[way]}"
        report.aims += [
            Aim(f"{named}: per second", RATE_AIM, _middle(runs[way], "rate")),
            Aim(f"{named}: peak MiB", MEMORY_AIM, _middle(runs[way], "peak"), at_most=True),
        ]


def _ratio(runs: dict[str, list[dict[str, Any]]], way: str) -> float:
    pairs = zip(runs["payloads"], runs[way], strict=True)
    return median(float(ours["rate"]) / float(theirs["rate"]) for ours, theirs in pairs)


def _read(way: str, url: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.benchmarks.events.reader"],
        input=json.dumps({"way": way, "url": url}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the reading process failed: {done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _middle(runs: list[dict[str, Any]], name: str) -> float:
    return median(float(run[name]) for run in runs)
