"""A crowd of threads on a small pool: does everybody get a turn, and how long is the wait?"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from psycopg_pool import ConnectionPool
from sqlalchemy.orm import Session

from rootstream_db import Database, RootStream
from rootstream_db.models import User
from scripts.benchmarks.foundation.rows import SELECT, address, bare_engine, make_users
from scripts.benchmarks.foundation.scale import Scale
from scripts.benchmarks.report import Aim, Report, Table

THREADS = 128
CONNECTIONS = 20
JAIN_AIM = 0.99
P99_AIM = 1.25
"""Ours against psycopg_pool's; above 1 because its read does less."""

Reader = Callable[[int], object]
Turn = Callable[[], AbstractContextManager[Reader]]
"""A connection for one read; entering it is the wait."""


@dataclass
class Crowd:
    """What one turn of a pool showed."""

    counts: list[int] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    elapsed: float = 0.0

    def row(self) -> dict[str, float]:
        """Return the figures of the table."""
        ordered = sorted(self.times)
        return {
            "per second": len(ordered) / self.elapsed,
            "Jain": jain(self.counts),
            "p50 ms": 1e3 * ordered[len(ordered) // 2],
            "p99 ms": 1e3 * ordered[int(len(ordered) * 0.99)],
            "worst wait ms": 1e3 * max(self.waits),
            "fewest turns": float(min(self.counts)),
            "most turns": float(max(self.counts)),
        }


def measure(rootstream: RootStream, scale: Scale, report: Report) -> None:
    """Let the pools take turns under the same crowd."""
    ids = make_users(rootstream, "fair", THREADS)
    with ExitStack() as stack:
        pools = _pools(rootstream, stack)
        found: dict[str, list[dict[str, float]]] = {name: [] for name in pools}
        for turn in pools.values():
            crowd_on(turn, ids, seconds=0.2)  # warm-up: every pool opens its connections
        for _ in range(scale.rounds_fair):
            for name, turn in pools.items():
                found[name].append(crowd_on(turn, ids, seconds=scale.seconds_fair).row())
    rows = [{"who": name, **_middle(turns)} for name, turns in found.items()]
    title = f"{THREADS} threads on {CONNECTIONS} connections, read by key, autocommit"
    report.tables.append(Table(title, rows, ("Jain's index: 1 when all threads get the same",)))
    ratio = rows[0]["p99 ms"] / rows[2]["p99 ms"]
    report.aims.append(Aim("fairness: Jain's index", JAIN_AIM, rows[0]["Jain"]))
    report.aims.append(Aim("fairness: p99 ÷ psycopg_pool's", P99_AIM, ratio, at_most=True))


def jain(counts: Sequence[int]) -> float:
    """Return Jain's index: 1 when everybody got the same, 1/n when one got all."""
    return sum(counts) ** 2 / (len(counts) * sum(count**2 for count in counts))


def crowd_on(turn: Turn, ids: list[int], *, seconds: float) -> Crowd:
    """Have a thread for each id read its row again and again."""
    together = threading.Barrier(len(ids) + 1)
    ends = [0.0]
    crowd = Crowd()
    lock = threading.Lock()

    def loop(key: int) -> None:
        waits: list[float] = []
        times: list[float] = []
        together.wait()
        while (started := time.perf_counter()) < ends[0]:
            with turn() as read:
                waits.append(time.perf_counter() - started)
                read(key)
            times.append(time.perf_counter() - started)
        with lock:
            crowd.counts.append(len(times))
            crowd.waits += waits
            crowd.times += times

    threads = [threading.Thread(target=loop, args=(key,)) for key in ids]
    for thread in threads:
        thread.start()
    started = time.perf_counter()
    ends[0] = started + seconds
    together.wait()
    for thread in threads:
        thread.join()
    crowd.elapsed = time.perf_counter() - started
    return crowd


def _pools(rootstream: RootStream, stack: ExitStack) -> dict[str, Turn]:
    settings = rootstream.settings.database.model_copy(update={"pool_size": CONNECTIONS})
    database = stack.enter_context(Database(settings))
    engine = bare_engine(
        rootstream, pool_size=CONNECTIONS, max_overflow=0, isolation_level="AUTOCOMMIT"
    )
    stack.callback(engine.dispose)
    pool = stack.enter_context(
        ConnectionPool(
            address(rootstream),
            min_size=CONNECTIONS,
            max_size=CONNECTIONS,
            kwargs={"autocommit": True},
        )
    )

    @contextmanager
    def ours() -> Iterator[Reader]:
        with database.read() as work:
            yield work.users.get

    @contextmanager
    def queue_pool() -> Iterator[Reader]:
        with engine.connect() as connection, Session(connection) as session:
            yield lambda key: session.get(User, key)

    @contextmanager
    def psycopg_pool() -> Iterator[Reader]:
        with pool.connection() as connection:
            yield lambda key: connection.execute(SELECT, (key,)).fetchone()

    return {
        "ours: read(): users.get": ours,
        "SQLAlchemy's QueuePool, Session.get": queue_pool,
        "psycopg_pool, tuple": psycopg_pool,
    }


def _middle(turns: Sequence[dict[str, float]]) -> dict[str, Any]:
    return {name: median(turn[name] for turn in turns) for name in turns[0]}
