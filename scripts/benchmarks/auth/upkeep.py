"""What sessions cost while they are used: notes of their use, and a mixture of everything."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any, Final

from rootstream_db import RootStream
from rootstream_db.clock import utc_now
from scripts.benchmarks.auth.ours import OurSessions, beside, load_users
from scripts.benchmarks.auth.scale import Scale
from scripts.benchmarks.foundation.rows import connect
from scripts.benchmarks.report import Aim, Report, Table, Total

HOT_AIM: Final = 0.95
MIXED_AIM: Final = 1000.0
THREADS: Final = (1, 8)
MIXTURE: Final = ("validate",) * 90 + ("refresh",) * 9 + ("create",)
_PER_USER: Final = 5
_PATIENCE: Final = 20.0


class LeapingClock:
    """The time, some leaps ahead."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def __call__(self) -> datetime:
        """Return the moment it shows."""
        return utc_now() + self._ahead

    def leap(self, by: timedelta) -> None:
        """Move on."""
        self._ahead += by


def touch(rootstream: RootStream, scale: Scale, report: Report) -> None:
    """Use sessions when a note of it is due, and see how PostgreSQL wrote that down."""
    clock = LeapingClock()
    with beside(rootstream, clock=clock) as later:
        users = load_users(later, "touch", scale.sessions // _PER_USER)
        ours = OurSessions(later, "ours", users)
        tokens = [ours.create() for _ in range(scale.sessions)]
        before, elapsed = _updates(rootstream), 0.0
        for _ in range(scale.touches):
            clock.leap(rootstream.settings.sessions.touch_interval)
            started = time.perf_counter()
            for token in tokens:
                later.sessions.validate(token)
            elapsed += time.perf_counter() - started
    # A server process tells what it counted when it ends, at the latest.
    due = scale.sessions * scale.touches
    deadline = time.monotonic() + _PATIENCE
    written = hot = 0
    while written < due and time.monotonic() < deadline:
        time.sleep(0.05)
        after = _updates(rootstream)
        written, hot = (after[name] - before[name] for name in ("written", "hot"))
    row = {"who": "ours", "per second": due / elapsed, "HOT share": hot / written}
    report.tables.append(
        Table("validate and note the use", [row], ["one thread; each in a commit of its own"])
    )
    report.aims.append(Aim("validate and note the use: HOT share", HOT_AIM, hot / written))
    report.totals.append(Total("validate and note the use: rows written", due, written))


def mixed(rootstream: RootStream, scale: Scale, report: Report) -> None:
    """Do 90 validations, 9 refreshes and 1 login, over and over, in one process."""
    title = "90 validate, 9 refresh, 1 create"
    rows = []
    for threads in THREADS:
        users = load_users(rootstream, f"mixed_{threads}", scale.sessions // _PER_USER)
        # Accounts of their own: logins beyond the limit end the sessions that are in use otherwise.
        newcomers = load_users(rootstream, f"mixed_new_{threads}", len(users))
        ours = OurSessions(rootstream, "ours", users)
        tokens: list[str] = [ours.create() for _ in range(scale.sessions)]
        ours = OurSessions(rootstream, "ours", newcomers)
        done, elapsed = _mix(ours, tokens, threads=threads, seconds=scale.seconds_mixed)
        rate = done.total() / elapsed
        rows.append({"who": f"ours, {threads} threads", "per second": rate})
        report.aims.append(Aim(f"{title}, {threads} threads: per second", MIXED_AIM, rate))
        with connect(rootstream) as connection:
            found = connection.execute(
                "SELECT count(*) FROM sessions WHERE user_id = ANY(%s)",
                [[user.id for user in (*users, *newcomers)]],
            ).fetchone()
        expected = len(tokens) + done["create"]
        report.totals.append(Total(f"{title}, {threads} threads: rows", (expected,), found))
    report.tables.append(Table(title, rows, ["one process"]))


def _mix(
    ours: OurSessions, tokens: Sequence[str], *, threads: int, seconds: float
) -> tuple[Counter[str], float]:
    done: Counter[str] = Counter()
    adding = threading.Lock()
    acts: dict[str, Any] = {"validate": ours.find, "refresh": ours.refresh}

    def work(number: int) -> None:
        own: Counter[str] = Counter()
        kinds = itertools.cycle(MIXTURE)
        mine = itertools.cycle(tokens[number::threads])
        while time.perf_counter() < until:
            kind = next(kinds)
            if kind == "create":
                ours.create()
            else:
                acts[kind](next(mine))
            own[kind] += 1
        with adding:
            done.update(own)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    started = time.perf_counter()
    until = started + seconds
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return done, time.perf_counter() - started


def _updates(rootstream: RootStream) -> dict[str, int]:
    """Return how many rows of sessions were written anew, and how many of them in place."""
    with closing(connect(rootstream, autocommit=True)) as connection:
        row = connection.execute(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'sessions'"
        ).fetchone()
    written, hot = row or (0, 0)
    return {"written": written, "hot": hot}
