"""Viewer updates: free-running against plain Redis commands, and held at a rate with flushes on."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

import redis

from rootstream_db import RootStream
from rootstream_db.services.viewers import FlushResult, Heartbeat
from scripts.benchmarks.contest import Rival, compete
from scripts.benchmarks.foundation.rows import connect, make_users
from scripts.benchmarks.foundation.scale import Scale
from scripts.benchmarks.report import Aim, Report, Table, Total

STREAMS = 200
VIEWERS_EACH = 50
BATCH = 500
FREE_AIM = 40_000
HELD_AIM = 0.999
FLUSH_EVERY = 1.0
Batch = list[Heartbeat]


class Producer:
    """Sends heartbeats of the same crowd over and over, and adds up what it sent."""

    def __init__(self, rootstream: RootStream, batches: Sequence[Batch]) -> None:
        self._viewers = rootstream.viewers
        self._batches = itertools.cycle(batches)
        self.sent: Counter[str] = Counter()

    def send(self, batches: int) -> None:
        """Send that many batches."""
        for batch in itertools.islice(self._batches, batches):
            taken = self._viewers.heartbeat_many(batch)
            self.sent["heartbeats"] += taken
        self.sent["batches"] += batches


class Raw:
    """The same facts in plain commands: presence, each visit, and the sums of each stream."""

    def __init__(self, rootstream: RootStream, batches: Sequence[Batch]) -> None:
        url = rootstream.settings.redis.url
        if url is None:
            raise ValueError("the benchmark needs a Redis")
        self._redis = redis.Redis.from_url(url.get_secret_value())
        self._batches = itertools.cycle(batches)
        self.sent = 0

    def send(self, batches: int) -> None:
        """Send that many batches, each as one pipeline of two commands a viewer, three a stream."""
        for batch in itertools.islice(self._batches, batches):
            self._send_all(batch)

    def send_presence(self, batches: int) -> None:
        """Send that many batches, each as one pipeline of one command a viewer."""
        for batch in itertools.islice(self._batches, batches):
            now = time.perf_counter()
            with self._redis.pipeline(transaction=False) as pipe:
                for stream_id, viewer, _, _, _ in batch:
                    pipe.zadd(f"raw:present:{stream_id}", {viewer: now})
                pipe.execute()

    def total(self) -> int:
        """Return the heartbeats that Redis counted."""
        counted: Any = self._redis.hgetall("raw:delta")
        return sum(int(n) for name, n in counted.items() if name.endswith(b":h"))

    def close(self) -> None:
        """Forget everything and disconnect."""
        keys = list(self._redis.scan_iter("raw:*"))
        if keys:
            self._redis.delete(*keys)
        self._redis.close()

    def _send_all(self, batch: Batch) -> None:
        now = time.perf_counter()
        sums: dict[int, list[int]] = {}
        with self._redis.pipeline(transaction=False) as pipe:
            for stream_id, viewer, _, watched, sent in batch:
                pipe.zadd(f"raw:seen:{stream_id}", {viewer: now})
                pipe.hset(f"raw:visits:{stream_id}", viewer, f"{now} {watched} {sent}")
                own = sums.setdefault(stream_id, [0, 0, 0])
                own[0] += 1
                own[1] += watched or 0
                own[2] += sent
            for stream_id, (beats, watched, sent) in sums.items():
                pipe.hincrby("raw:delta", f"{stream_id}:h", beats)
                pipe.hincrby("raw:delta", f"{stream_id}:w", watched)
                pipe.hincrby("raw:delta", f"{stream_id}:b", sent)
            pipe.execute()
        self.sent += len(batch)


def measure(rootstream: RootStream, scale: Scale, report: Report) -> None:
    """Measure the free-running rate, then hold the fixed one, then compare the totals."""
    batches = make_batches(make_streams(rootstream))
    producer = Producer(rootstream, batches)
    raw = Raw(rootstream, batches)
    try:
        _run_free(producer, raw, scale, report)
        report.totals.append(Total("viewers: raw heartbeats in Redis", raw.sent, raw.total()))
    finally:
        raw.close()
    rootstream.viewers.flush()
    _hold(rootstream, producer, scale, report)
    expected = _expected(batches, producer.sent["batches"])
    report.totals.append(
        Total("viewers: heartbeats taken", expected[0], producer.sent["heartbeats"])
    )
    report.totals.append(Total("viewers: PostgreSQL's totals", expected, _stored(rootstream)))


def make_streams(rootstream: RootStream) -> list[int]:
    """Create the streams that are watched."""
    (owner_id,) = make_users(rootstream, "owner", 1)
    with rootstream.transaction() as work:
        owner = work.users.get_one(owner_id)
        return [
            rootstream.streams.create(work, owner=owner, name=f"Stream {number}")[0].id
            for number in range(STREAMS)
        ]


def make_batches(streams: Sequence[int]) -> list[Batch]:
    """Return one heartbeat of each viewer, in batches that mix the streams."""
    beats = [
        Heartbeat(stream_id, f"viewer-{stream_id}-{number}", None, 10, 250_000)
        for number in range(VIEWERS_EACH)
        for stream_id in streams
    ]
    return [beats[start : start + BATCH] for start in range(0, len(beats), BATCH)]


def _run_free(producer: Producer, raw: Raw, scale: Scale, report: Report) -> None:
    rivals = [
        Rival("ours, heartbeat_many", producer.send),
        Rival("redis-py pipeline, same facts", raw.send),
        Rival("redis-py pipeline, presence only", raw.send_presence),
    ]
    rows = compete(rivals, rounds=scale.rounds, operations=max(scale.operations // 40, 2))
    for row in rows:  # from batches to updates
        row["per second"] *= BATCH
        row["client CPU µs"] /= BATCH
    title = "viewer updates, free-running"
    report.add_contest(title, rows, f"batches of {BATCH}; {STREAMS} streams; one client thread")
    report.aims.append(Aim(f"{title}: per second", FREE_AIM, rows[0]["per second"]))


def _hold(rootstream: RootStream, producer: Producer, scale: Scale, report: Report) -> None:
    flushes: list[FlushResult] = []
    ended = threading.Event()

    def flush_regularly() -> None:
        while not ended.wait(FLUSH_EVERY):
            flushes.append(rootstream.viewers.flush())

    flusher = threading.Thread(target=flush_regularly)
    flusher.start()
    try:
        row = _paced(producer, scale)
    finally:
        ended.set()
        flusher.join()
    rootstream.viewers.flush()
    title = f"viewer updates, held at {scale.rate_held:,}/s for {scale.seconds_held:g} s"
    times = [result.seconds * 1e3 for result in flushes] or [0.0]
    row |= {"flushes": len(flushes), "flush ms": median(times), "slowest flush ms": max(times)}
    report.tables.append(Table(title, [row], ("a flush every second, in another thread",)))
    share = row["per second"] / scale.rate_held
    report.aims.append(Aim(f"{title}: share of the rate", HELD_AIM, share))


def _paced(producer: Producer, scale: Scale) -> dict[str, Any]:
    """Send batches when they are due, and say how late they were."""
    batches = int(scale.rate_held * scale.seconds_held / BATCH)
    pause = BATCH / scale.rate_held
    lateness: list[float] = []
    started = time.perf_counter()
    for due in _due_times(started, pause, batches):
        time.sleep(max(due - time.perf_counter(), 0))
        producer.send(1)
        # Late is what is not done when the next batch is due.
        lateness.append(max(time.perf_counter() - due - pause, 0) * 1e3)
    # The last batch has its whole pause, as every other one.
    elapsed = max(time.perf_counter() - started, batches * pause)
    return {
        "who": "ours, heartbeat_many",
        "per second": batches * BATCH / elapsed,
        "batches late": sum(late > 0 for late in lateness),
        "latest ms": max(lateness),
    }


def _due_times(started: float, pause: float, count: int) -> Iterator[float]:
    return (started + number * pause for number in range(count))


def _expected(batches: Sequence[Batch], sent: int) -> tuple[int, int, int]:
    beats = list(itertools.chain.from_iterable(itertools.islice(itertools.cycle(batches), sent)))
    return (
        len(beats),
        sum(beat.watch_seconds or 0 for beat in beats),
        sum(beat.bytes_out for beat in beats),
    )


def _stored(rootstream: RootStream) -> tuple[int, ...]:
    with connect(rootstream) as connection:
        row = connection.execute(
            "SELECT sum(heartbeats)::bigint, sum(watch_seconds)::bigint, sum(bytes_out)::bigint "
            "FROM stream_totals"
        ).fetchone()
    return tuple(row or ())
