"""Archiving: what is moved, what stays, and what happens when it cannot be done."""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest
import zstandard
from sqlalchemy import text

from rootstream_db.database import Database
from rootstream_db.errors import (
    AppendOnlyError,
    ConfigurationError,
    EventArchiveError,
    JobRunningError,
    SyncError,
    ValidationError,
)
from rootstream_db.services.event_archive import EventArchiver, archiver, framing, writer
from rootstream_db.testing import settings_for


@pytest.fixture
def tamper(site):
    """Change the log as somebody does who owns the database."""

    def change(statement):
        with site.database.transaction() as work:
            work.session.execute(text("SET LOCAL rootstream.maintenance = 'on'"))
            work.session.execute(text(statement))

    return change


def ranges(archives):
    return [(archive.first_position, archive.last_position) for archive in archives]


def test_files_end_where_commits_end_and_follow_one_another(site):
    site.append(3, 4, 5, 1, 9, 2, 30, 1, 2)
    made = site.archiver.archive(keep=2)
    assert [(1, 7), (8, 13), (14, 22), (23, 24), (25, 54), (55, 55)] == ranges(made)
    assert made == site.archiver.archives()
    assert [archive.file_name for archive in made] == site.files()
    assert 2 == site.count_rows()


def test_the_manifest_describes_each_file(site):
    site.append(3, 2)
    with site.database.read() as work:
        head = work.events.get_head()
    times = [event.recorded_at for event in site.events.read_all()]
    (made,) = site.archiver.archive(keep=0)
    content = (site.directory / made.file_name).read_bytes()
    assert (5, len(content)) == (made.events, made.size_bytes)
    assert hashlib.sha256(content).digest() == made.sha256
    assert (head.chain, head.epoch) == (made.chain, made.epoch)
    assert (min(times), max(times)) == (made.recorded_from, made.recorded_until)
    assert site.clock() == made.created_at
    assert made.chain.hex()[:16] in made.file_name


def test_any_zstd_program_makes_lines_of_json_of_a_file(site, monkeypatch):
    monkeypatch.setattr(writer, "BLOCK_EVENTS", 2)
    site.append(5)
    with site.database.read() as work:
        rows = work.session.execute(text("SELECT row_hash FROM event_log ORDER BY position"))
        hashes = [bytes(row_hash) for (row_hash,) in rows]
    (made,) = site.archiver.archive(keep=0)
    with (site.directory / made.file_name).open("rb") as file:
        plain = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read()
    lines = plain.splitlines()
    assert hashes == [hashlib.sha256(line).digest() for line in lines]
    assert all(line.startswith(b'[0, %d, "' % number) for number, line in enumerate(lines, 1))


@pytest.mark.parametrize(
    ("limits", "last"),
    [
        ({"before_position": 1}, 0),
        ({"before_position": 4}, 3),
        ({"before_position": 7}, 3),
        ({"before_position": 8}, 7),
        ({"before_position": 99}, 8),
        ({"keep": 0}, 8),
        ({"keep": 1}, 7),
        ({"keep": 99}, 0),
        ({"keep": 0, "before_position": 4}, 3),
    ],
)
def test_no_commit_is_torn_apart_and_the_strictest_limit_counts(site, limits, last):
    site.append(3, 4, 1)
    assert (0, last) == site.archiver.plan(**limits)
    site.archiver.archive(**limits)
    assert 8 - last == site.count_rows()


def test_events_of_an_age_are_archived(site):
    site.append(3, 4)
    (young,) = {event.recorded_at for event in site.events.read_all(after_position=3)}
    site.clock.now = young + timedelta(days=1)
    assert (0, 3) == site.archiver.plan(older_than=timedelta(days=1))
    site.clock.advance(1)
    assert (0, 7) == site.archiver.plan(older_than=timedelta(days=1))


@pytest.mark.parametrize(
    "limits", [{}, {"before_position": 0}, {"keep": -1}, {"older_than": timedelta(days=-1)}]
)
def test_limits_that_cannot_be_are_refused(site, limits):
    with pytest.raises(ValidationError):
        site.archiver.archive(**limits)


def test_a_second_run_goes_on_where_the_first_ended(site):
    site.append(3, 4, 5)
    assert [(1, 3)] == ranges(site.archiver.archive(before_position=4))
    assert [] == site.archiver.archive(before_position=4)
    site.append(1)
    assert [(4, 13)] == ranges(site.archiver.archive(keep=0))
    assert site.events.verify().ok


def test_progress_adds_up_to_the_plan(site):
    site.append(3, 4, 9)
    seen: list[int] = []
    plan = site.archiver.plan(keep=0)
    site.archiver.archive(keep=0, progress=seen.append)
    assert plan.events == sum(seen) == 16


def test_only_one_archiver_works_at_a_time(site):
    site.append(3)
    with (
        site.database.exclusively(archiver.JOB),
        pytest.raises(JobRunningError, match="archiving events"),
    ):
        site.archiver.archive(keep=0)
    assert 1 == len(site.archiver.archive(keep=0))


def test_an_archiver_that_lost_its_lock_changes_nothing(site, monkeypatch):
    """Another one got in between, for example because the lock's connection was cut."""
    site.append(3, 4)

    def overtaken(*_):
        monkeypatch.undo()
        other = site.archiver_of(site.database, archive_file_events=1)
        with monkeypatch.context() as patch:
            patch.setattr(archiver, "JOB", "the same in another process")
            other.archive(before_position=4)

    monkeypatch.setattr(archiver, "publish", overtaken)
    with pytest.raises(JobRunningError):
        site.archiver.archive(keep=0)
    assert [(1, 3)] == ranges(site.archiver.archives())
    assert 7 == len(list(site.events.read_all()))


def test_the_role_of_the_application_can_archive_nothing(site, clean_database_url):
    site.append(3)
    with psycopg.connect(clean_database_url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS archive_app")
        connection.execute("CREATE ROLE archive_app LOGIN")
        connection.execute("GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO archive_app")
        try:
            url = clean_database_url.replace("postgres@", "archive_app@", 1)
            settings = settings_for(url, "redis://nowhere.invalid").database
            with Database(settings) as database, pytest.raises(AppendOnlyError):
                site.archiver_of(database).archive(keep=0)
        finally:
            connection.execute("DROP OWNED BY archive_app")
            connection.execute("DROP ROLE archive_app")
    assert (3, []) == (site.count_rows(), site.archiver.archives())
    assert [(1, 3)] == ranges(site.archiver.archive(keep=0))


@pytest.mark.parametrize(
    "change",
    [
        """UPDATE event_log SET data = '{"n"\\: 9}' WHERE position = 5""",
        "DELETE FROM event_log WHERE position = 5",
        "UPDATE event_commit SET chain = sha256('') WHERE last_position = 7",
        "DELETE FROM event_commit WHERE last_position = 3",
    ],
)
def test_a_log_that_does_not_hold_is_not_archived(site, tamper, change):
    site.append(3, 4, 5)
    tamper(change)
    rows = site.count_rows()
    with pytest.raises(SyncError, match="events verify"):
        site.archiver.archive(keep=0)
    assert (rows, []) == (site.count_rows(), site.archiver.archives())
    assert [] == site.files()


def test_events_changed_after_they_were_written_stay(site, tamper, monkeypatch):
    site.append(3)
    publish = writer.publish

    def publish_and_tamper(*paths):
        publish(*paths)
        tamper("UPDATE event_log SET row_hash = sha256('') WHERE position = 2")

    monkeypatch.setattr(archiver, "publish", publish_and_tamper)
    with pytest.raises(SyncError, match="somebody changed them"):
        site.archiver.archive(keep=0)
    assert (3, []) == (site.count_rows(), site.archiver.archives())


def test_what_killed_runs_left_behind_is_removed_or_used(site):
    site.append(3, 4)
    site.archiver.archive(before_position=4)
    (site.directory / "events-0-1.jsonl.zst.0a1b2c3d.partial").write_bytes(b"half")
    (site.directory / "notes.txt").write_bytes(b"mine")
    made = site.archiver.archive(keep=0)
    assert sorted(["notes.txt", *(archive.file_name for archive in site.archiver.archives())]) == (
        site.files()
    )
    assert [(4, 7)] == ranges(made)


def test_a_finished_file_that_was_not_entered_is_entered(site, monkeypatch):
    site.append(3, 4, 3)

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(EventArchiver, "_keep_ids", die)
        with pytest.raises(KeyboardInterrupt):
            site.archiver.archive(before_position=8)
    (left,) = site.files()
    before = (site.directory / left).stat()
    # More could go into one file now, but what is written is taken as it is.
    made = site.archiver.archive(keep=0)
    assert [(1, 7), (8, 10)] == ranges(made)
    assert left == made[0].file_name
    assert before == (site.directory / left).stat()


def test_a_finished_file_that_was_damaged_since_is_written_again(site, monkeypatch):
    site.append(3)
    (made,) = site.archiver.archive(keep=0)
    content = (site.directory / made.file_name).read_bytes()
    site.append(3)
    for damaged in (content[:-1], b"", content[:40] + b"x" + content[41:]):
        with monkeypatch.context() as patch:
            patch.setattr(EventArchiver, "_keep_ids", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                site.archiver.archive(keep=0)
        (left,) = set(site.files()) - {made.file_name}
        (site.directory / left).write_bytes(damaged)
    assert [(4, 6)] == ranges(site.archiver.archive(keep=0))
    assert 6 == len(list(site.events.read_all()))


def test_a_file_that_does_not_read_back_deletes_nothing(site, monkeypatch):
    site.append(3)

    @contextmanager
    def forgetful(path):
        with writer.new_file(path) as file:
            yield file
        content = bytearray(path.read_bytes())
        content[30] ^= 1
        path.write_bytes(content)

    monkeypatch.setattr(archiver, "new_file", forgetful)
    with pytest.raises(EventArchiveError, match="does not read back"):
        site.archiver.archive(keep=0)
    assert (3, []) == (site.count_rows(), site.archiver.archives())


def test_a_full_disk_deletes_nothing_and_leaves_nothing(site, monkeypatch):
    site.append(3)

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    site.directory.mkdir()
    with pytest.raises(EventArchiveError, match="cannot be written: No space left on device"):
        site.archiver.archive(keep=0)
    assert (3, [], []) == (site.count_rows(), site.archiver.archives(), site.files())


def test_without_a_directory_nothing_begins(site):
    with pytest.raises(ConfigurationError, match="ROOTSTREAM_EVENTS__ARCHIVE_DIRECTORY"):
        site.archiver_of(site.database, archive_directory=None).archive(keep=0)


def test_without_the_extra_it_is_named(site, monkeypatch):
    site.append(3)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(ConfigurationError, match=r"rootstream-db\[archive\]"):
        site.archiver.archive(keep=0)
    assert [] == site.files()


def test_files_are_not_for_everybody(site):
    site.append(1)
    site.archiver.archive(keep=0)
    (path,) = site.directory.iterdir()
    assert 0 == path.stat().st_mode & 0o007


def test_large_events_make_small_blocks(site, monkeypatch):
    monkeypatch.setattr(writer, "BLOCK_BYTES", 1000)
    with site.database.transaction() as work:
        for number in range(6):
            site.events.append(work, "Poll", "1", "Voted", {"text": f"{number}" * 700})
    (made,) = site.archiver.archive(keep=0)
    raw = (site.directory / made.file_name).read_bytes()
    index = framing.unpack_index(raw[-framing.index_size(raw[-framing.TRAILER_BYTES :]) :])
    assert [2, 2, 2] == [block.events for block in index.blocks]
    assert 6 == len(list(site.events.read("Poll", "1")))
