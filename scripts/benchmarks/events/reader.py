"""Read the whole log once and print what it took: a process for ``reading`` to start."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson
import psycopg
from psycopg.types.json import set_json_loads
from pydantic import SecretStr

from rootstream_db.database import Database
from rootstream_db.services.event_store import EventStore
from rootstream_db.settings import DatabaseSettings

_PAGE: Final = 1000
_STATUS: Final = Path("/proc/self/status")
_SELECT: Final = """
SELECT position, event_id, aggregate_type, aggregate_id, version, event_type, schema_version, data,
    metadata, user_id, subject_id, correlation_id, causation_id, occurred_at, recorded_at
FROM event_log WHERE log_id = 0 AND position > %s ORDER BY position LIMIT %s
"""


def main() -> None:
    """Read as the request on standard input says; it holds a password, so it is no argument."""
    request = json.load(sys.stdin)
    read = _WAYS[request["way"]]
    for _ in read(request["url"], 1):
        pass
    before = _peak()
    processor, started = time.process_time(), time.perf_counter()
    events = total = 0
    for position in read(request["url"], None):
        events += 1
        total += position
    elapsed = time.perf_counter() - started
    found: dict[str, Any] = {
        "events": events,
        "sum": total,
        "rate": events / elapsed,
        "cpu": (time.process_time() - processor) / events,
        "before": before,
        "peak": _peak(),
    }
    print(json.dumps(found))


def _places(url: str, to: int | None) -> Iterator[int]:
    with Database(DatabaseSettings(url=SecretStr(url), pool_size=1)) as database:
        for event in EventStore(database).read_all(to_position=to):
            yield event.position


def _payloads(url: str, to: int | None) -> Iterator[int]:
    with Database(DatabaseSettings(url=SecretStr(url), pool_size=1)) as database:
        for event in EventStore(database).read_all(to_position=to):
            # psycopg's tuples hold both as dictionaries too.
            if not (event.data and event.metadata):
                raise ValueError("an event without a payload was never appended")
            yield event.position


def _plain(
    url: str, to: int | None, *, loads: Callable[[str | bytes], Any] = json.loads
) -> Iterator[int]:
    after = 0
    with psycopg.connect(url, autocommit=True) as connection:
        set_json_loads(loads, connection)
        while rows := connection.execute(_SELECT, (after, to or _PAGE)).fetchall():
            for row in rows:
                yield row[0]
            after = rows[-1][0]
            if to is not None:
                return


def _peak() -> float:
    """Return the most memory this process had, in MiB."""
    if _STATUS.exists():
        # Linux hands the peak of the process that started this one on to getrusage.
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    scale = 1024**2 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


_WAYS: Final[dict[str, Callable[[str, int | None], Iterator[int]]]] = {
    "places": _places,
    "payloads": _payloads,
    "plain": _plain,
    "orjson": partial(_plain, loads=orjson.loads),
}

if __name__ == "__main__":
    main()
