"""``rootstream-db ingest catch-up``: for cron, where no hook server runs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rootstream_db.cli.app import app
from rootstream_db.rootstream import RootStream
from rootstream_db.services.ingest.missed import SETTLED
from rootstream_db.testing import FrozenClock
from tests.factories import make_user


def test_it_registers_what_no_hook_told_about(
    rootstream: RootStream,
    clock: FrozenClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    with rootstream.transaction() as work:
        stream, key = rootstream.streams.create(work, owner=make_user(work), name="Speedrun")
    rootstream.streams.start(key, node="edge-1", connection_id="17")
    path = tmp_path / f"{stream.public_id}.flv"
    path.write_bytes(b"cut short")
    finished = (clock() - SETTLED).timestamp()
    os.utime(path, (finished, finished))
    for name, value in {
        "DATABASE_URL": rootstream.settings.database.url,
        "REDIS_URL": rootstream.settings.redis.url,
    }.items():
        assert value is not None
        monkeypatch.setenv(f"ROOTSTREAM_{name}", value.get_secret_value())
    monkeypatch.setenv("ROOTSTREAM_INGEST__RECORDINGS_DIRECTORY", str(tmp_path))

    counts = [
        json.loads(CliRunner().invoke(app, ["ingest", "catch-up", "--json"]).stdout)
        for _ in range(2)
    ]

    assert [{"found": 1, "registered": 1}, {"found": 0, "registered": 0}] == counts
    with rootstream.database.read() as work:
        (row,) = work.recordings.list_by_stream(stream.id)
    assert ("unreadable", 9) == (row.status, row.size_bytes)
