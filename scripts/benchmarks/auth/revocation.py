"""How soon another process refuses a session that was ended."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

from pydantic import SecretStr

from rootstream_db import RootStream
from rootstream_db.models import User
from scripts.benchmarks.auth.ours import OurSessions, beside, load_users
from scripts.benchmarks.auth.scale import Scale
from scripts.benchmarks.report import Aim, Report, Table, Total

ROOT: Final = Path(__file__).resolve().parents[3]
AIM_MS: Final = 5.0
WAYS: Final = {"Redis is asked each time": 0.0, "remembered for 1 s": 1.0}


def measure(rootstream: RootStream, scale: Scale, report: Report) -> None:
    """End sessions that another process uses without a pause."""
    title = "revoke, seen by another process"
    rows = []
    for way, memory in WAYS.items():
        users = load_users(rootstream, f"revoked_{memory:g}".replace(".", "_"), 1)
        # By the clock of the machine, which the other process goes by as well.
        with beside(rootstream) as here:
            took = _watch(here, users, scale.revocations, memory_seconds=memory)
        from_call, from_commit = ([one[place] * 1e3 for one in took] for place in (0, 1))
        rows.append(
            {
                "who": way,
                "p50 ms after the call": median(from_call),
                "p99 ms after the call": _p99(from_call),
                "p50 ms after it returned": median(from_commit),
                "p99 ms after it returned": _p99(from_commit),
            }
        )
        report.aims.append(
            Aim(
                f"{title}, {way}: p99 ms after it returned", AIM_MS, _p99(from_commit), at_most=True
            )
        )
        report.totals.append(Total(f"{title}, {way}: refused", scale.revocations, len(took)))
    report.tables.append(
        Table(title, rows, ["the call commits; the other process validates without a pause"])
    )


def _watch(
    rootstream: RootStream, users: list[User], count: int, *, memory_seconds: float
) -> list[tuple[float, float]]:
    """Return seconds from the call of each revocation, and from its return, to the refusal."""
    ours = OurSessions(rootstream, "ours", users)
    took = []
    with subprocess.Popen(
        [sys.executable, "-m", "scripts.benchmarks.auth.watcher"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    ) as watcher:
        request = {"settings": _plain(rootstream), "memory_seconds": memory_seconds}
        _tell(watcher, json.dumps(request))
        for _ in range(count):
            token = ours.create()
            _tell(watcher, str(token))
            if _hear(watcher) != "ready":
                raise RuntimeError("the watching process failed")
            called = time.monotonic()
            rootstream.sessions.revoke(token)
            returned = time.monotonic()
            refused = _hear(watcher)
            took.append((refused - called, max(refused - returned, 0.0)))
        if watcher.stdin is not None:
            watcher.stdin.close()
    return took


def _plain(rootstream: RootStream) -> dict[str, Any]:
    """Return settings for another process; they hold secrets, so they go through a pipe."""

    def shown(value: Any) -> Any:
        if isinstance(value, SecretStr):
            return value.get_secret_value()
        if isinstance(value, dict):
            return {name: shown(one) for name, one in value.items() if one is not None}
        if isinstance(value, list | tuple):
            return [shown(one) for one in value]
        return value

    chosen = rootstream.settings.model_dump(include={"database", "redis", "security"})
    plain: dict[str, Any] = json.loads(json.dumps(shown(chosen), default=str))
    return plain


def _tell(watcher: subprocess.Popen[str], line: str) -> None:
    if watcher.stdin is None:
        raise RuntimeError("the watching process has no input")
    watcher.stdin.write(line + "\n")
    watcher.stdin.flush()


def _hear(watcher: subprocess.Popen[str]) -> Any:
    line = watcher.stdout.readline() if watcher.stdout is not None else ""
    if not line:
        raise RuntimeError("the watching process ended")
    return json.loads(line)


def _p99(values: list[float]) -> float:
    return quantiles(values, n=100)[98] if len(values) > 1 else values[0]
