"""What order, versions, hashes and idempotency cost: appends against a plain insert, as ratios."""

from __future__ import annotations

import itertools
import json
import statistics
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from rootstream_db import schema
from rootstream_db.embedded import EmbeddedPostgres

ROUNDS = 7
PLAIN = """
    INSERT INTO plain (log_id, position, event_id, aggregate_type, aggregate_id, version,
        event_type, schema_version, data, metadata, user_id, occurred_at, row_hash)
    SELECT 0, nextval('plain_position'), (event->>'event_id')::uuid, 'Plain', %s, number,
        event->>'event_type', (event->>'schema_version')::smallint, event->'data',
        event->'metadata', (event->>'user_id')::bigint, (event->>'occurred_at')::timestamptz,
        decode(repeat('00', 32), 'hex')
    FROM jsonb_array_elements(%s::jsonb) WITH ORDINALITY AS item (event, number)
    RETURNING event_id, position, version, recorded_at
"""
APPEND = """
    SELECT * FROM append_events(0::smallint, jsonb_build_array(jsonb_build_object(
        'type', 'Stream', 'id', %s::text, 'expected', 0, 'events', %s::jsonb)))
"""
AGGREGATES = itertools.count()


@pytest.fixture(scope="module")
def durable_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that flushes to disk at every commit, as in production."""
    folder = tmp_path_factory.mktemp("durable")
    for path in (folder, *folder.parents):
        if path.stat().st_mode & 0o777 == 0o700 and path != Path("/"):
            path.chmod(0o711)
    with EmbeddedPostgres(folder / "pg") as server:
        schema.upgrade(server.url())
        with psycopg.connect(server.url()) as connection:
            connection.execute("CREATE TABLE plain (LIKE event_log INCLUDING ALL)")
            connection.execute("CREATE SEQUENCE plain_position")
        yield server.url()


def made(count: int) -> list[dict]:
    return [
        {
            "event_id": str(uuid.uuid4()),
            "event_type": "ViewerJoined",
            "schema_version": 1,
            "data": {
                "viewers": number,
                "title": "a title of usual length",
                "tags": ["a", "b", "c"],
            },
            "metadata": {"ip": "192.0.2.1", "agent": "obs/30"},
            "user_id": 7,
            "occurred_at": "2026-01-01T12:00:00+00:00",
        }
        for number in range(count)
    ]


def insert(connection: psycopg.Connection, batch: str) -> None:
    connection.execute(PLAIN, [str(next(AGGREGATES)), batch]).fetchall()


def append(connection: psycopg.Connection, batch: str) -> None:
    connection.execute(APPEND, [str(next(AGGREGATES)), batch]).fetchall()


def rate(way, connection, count, calls):
    batches = [json.dumps(made(count)) for _ in range(calls)]
    started = time.perf_counter()
    for batch in batches:
        way(connection, batch)
    return count * calls / (time.perf_counter() - started)


@pytest.mark.benchmark
@pytest.mark.parametrize(("count", "calls"), [(1, 300), (10, 100), (100, 20), (1000, 3)])
def test_an_append_costs_at_most_twice_a_plain_insert(durable_url, count, calls):
    with psycopg.connect(durable_url, autocommit=True) as connection:
        rates: dict = {insert: [], append: []}
        for _ in range(ROUNDS):
            for way, found in rates.items():
                found.append(rate(way, connection, count, calls))
    plain, full = (statistics.median(found) for found in rates.values())
    print(f"{count} a call: {plain:,.0f} plain, {full:,.0f} appended, ratio {full / plain:.2f}")
    assert full / plain > 0.5


@pytest.mark.benchmark
def test_sixteen_writers_append_nearly_as_much_as_one(durable_url):
    rates: dict = {1: [], 16: []}
    for _ in range(ROUNDS):
        for writers, found in rates.items():
            found.append(rate_of_writers(durable_url, writers))
    one, many = (statistics.median(found) for found in rates.values())
    print(f"1 writer: {one:,.0f}, 16 writers: {many:,.0f}, ratio {many / one:.2f}")
    assert many / one > 0.6


def rate_of_writers(url: str, writers: int, seconds: float = 1.0) -> float:
    counts = [0] * writers
    barrier = threading.Barrier(writers)

    def write(number: int) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            append(connection, json.dumps(made(1)))
            barrier.wait(30)
            until = time.perf_counter() + seconds
            while time.perf_counter() < until:
                append(connection, json.dumps(made(1)))
                counts[number] += 1

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds
