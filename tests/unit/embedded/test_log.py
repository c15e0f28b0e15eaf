"""A log's last words are what the server died of, not what it said to a visitor."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootstream_db.embedded import EmbeddedPostgres, EmbeddedRedis, log
from rootstream_db.embedded.folder import ServerFolder
from rootstream_db.embedded.log import ServerLog, last_line

POSTGRES = """\
2026-11-21 13:00:00 UTC [7] LOG:  starting PostgreSQL 18.6
2026-11-21 13:00:00 UTC [9] FATAL:  the database system is starting up
2026-11-21 13:00:00 UTC [8] PANIC:  could not write to  file "x": No space left on device
2026-11-21 13:00:00 UTC [9] FATAL:  the database system is in recovery mode
2026-11-21 13:00:00 UTC [7] LOG:  aborting startup due to startup process failure
"""
REDIS = """\
9:M 21 Nov 2026 13:00:00.000 # WARNING Memory overcommit must be enabled!
9:M 21 Nov 2026 13:00:00.000 * Server initialized
9:M 21 Nov 2026 13:00:00.000 # Can't open the append-only file: No space left on device
9:M 21 Nov 2026 13:00:00.000 # Redis is now ready to exit, bye bye...
"""


def test_postgresql_died_of_its_last_serious_line(tmp_path: Path) -> None:
    reason = EmbeddedPostgres(tmp_path)._reason(POSTGRES)
    assert 'PANIC: could not write to file "x": No space left on device' == reason
    assert EmbeddedPostgres(tmp_path)._reason("LOG:  all is well\n") is None


def test_redis_died_of_its_last_serious_line(tmp_path: Path) -> None:
    reason = EmbeddedRedis(tmp_path)._reason(REDIS)
    assert "Can't open the append-only file: No space left on device" == reason


def test_the_last_line_is_the_last_that_says_something() -> None:
    assert "two" == last_line("one\n two \n\n")
    assert "" == last_line("")


def test_only_what_was_written_since_the_start_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = ServerLog(ServerFolder(tmp_path, "test"))
    journal.path.write_text("before\n")
    write(journal, b"after\n")
    assert "after\n" == journal.this_start()
    monkeypatch.setattr(log, "_LARGE", 4)
    write(journal, b"in a new file\n")
    assert "in a new file\n" == journal.path.read_text() == journal.this_start()
    assert "before\nafter\n" == (tmp_path / "server.log.1").read_text()


def write(journal: ServerLog, text: bytes) -> None:
    with os.fdopen(journal.open(), "wb") as file:
        file.write(text)
