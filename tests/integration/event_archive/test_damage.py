"""Files that were lost or tampered with: no reader passes over it, and ``verify`` says where."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from sqlalchemy import text

from rootstream_db.errors import EventArchiveError, EventArchiveMissingError, SyncError
from rootstream_db.services.event_archive import framing, writer
from rootstream_db.services.event_archive.framing import Index, Line
from rootstream_db.services.event_store import Problem

BLOCK = 3
# Commits of the log below; the file holds the first four of them: 1 2 3 | 4 5 6 7 | 8 | 9 10 || 11
SIZES = (3, 4, 1, 2, 1)
LAST = 10

ADD_AGAIN = """
    INSERT INTO event_log SELECT 0, 4, gen_random_uuid(), 'Added', '1', 1, 'Added', 1, '{}', '{}',
        NULL, NULL, NULL, NULL, now(), now(), sha256('')
"""


@pytest.fixture
def archived(site, monkeypatch):
    """A log whose first ten events are in one file, three to a block."""
    monkeypatch.setattr(writer, "BLOCK_EVENTS", BLOCK)
    site.append(*SIZES, user_id=7)
    (made,) = site.archiver.archive(keep=1)
    site.path = site.directory / made.file_name
    return site


READERS: dict[str, Callable] = {
    "read_all": lambda site: list(site.events.read_all()),
    "follow": lambda site: list(site.events.follow(idle=0)),
    "read": lambda site: list(site.events.read("Poll", "0")),
    "audit_trail": lambda site: list(site.events.audit_trail(7)),
}


@pytest.fixture(params=READERS)
def read(request):
    return READERS[request.param]


def found(site, **options):
    result = site.events.verify(**options)
    assert not result.ok
    return result.finding.problem, result.finding.position, result.finding.last


def index_of(content: bytes) -> Index:
    return framing.unpack_index(content[-framing.index_size(content[-framing.TRAILER_BYTES :]) :])


def blocks_of(path: Path) -> list[list[Line]]:
    content = path.read_bytes()
    return [
        list(
            framing.unpack_block(
                content[block.offset : block.offset + block.size], events=block.events
            )
        )
        for block in index_of(content).blocks
    ]


def rewrite(path: Path, lines: list[Line], *, chain: bytes | None = None) -> None:
    """Write a file anew, valid in itself: what only the manifest and the hashes can tell."""
    chain = index_of(path.read_bytes()).chain if chain is None else chain
    with path.open("wb") as file:
        made = writer.ArchiveWriter(file, log_id=0, first_position=1)
        for line in lines:
            made.add(line)
        made.finish(chain)


def test_a_missing_file_is_named(archived, read):
    archived.path.unlink()
    with pytest.raises(EventArchiveMissingError, match="is missing") as caught:
        read(archived)
    assert str(archived.path) == caught.value.file
    assert (1, LAST) == (caught.value.first_position, caught.value.last_position)
    assert (Problem.MISSING_ARCHIVE, 1, LAST) == found(archived)
    assert (Problem.MISSING_ARCHIVE, 8, LAST) == found(archived, after_position=7)
    # What is still in the log is not out of reach.
    assert 1 == len(list(archived.events.read_all(after_position=LAST)))


def test_a_file_that_may_not_be_opened_is_named(archived, read):
    archived.path.unlink()
    archived.path.mkdir()
    with pytest.raises(EventArchiveError, match="cannot be opened"):
        read(archived)
    assert (Problem.CHANGED_ARCHIVE, 1, LAST) == found(archived)


def test_the_file_of_another_log_is_no_substitute(archived, site, read):
    other = archived.path.with_name("other")
    shutil.copy(archived.path, other)
    rewrite(other, [Line(line.text, bytes(32)) for block in blocks_of(other) for line in block])
    shutil.move(other, archived.path)
    with pytest.raises(EventArchiveError):
        read(archived)
    assert (Problem.CHANGED_ROW, 1, 1) == found(archived)


def test_no_byte_of_a_file_changes_unnoticed(archived):
    content = archived.path.read_bytes()
    ends = [block.offset + block.size for block in index_of(content).blocks]
    for place in range(0, len(content), 7):
        changed = bytearray(content)
        changed[place] ^= 1
        archived.path.write_bytes(changed)
        problem, first, last = found(archived)
        assert problem in {
            Problem.CHANGED_ARCHIVE,
            Problem.CHANGED_ROW,
            Problem.MISSING_ROW,
            Problem.BROKEN_CHAIN,
        }, place
        # What is named is in the block of the byte; behind the blocks is the index, of all of them.
        before = sum(place >= end for end in ends)
        if before < len(ends):
            assert BLOCK * before < first <= last <= min(BLOCK * (before + 1), LAST), place
        with pytest.raises(EventArchiveError):
            list(archived.events.read_all())
    archived.path.write_bytes(content)
    assert archived.events.verify().ok


@pytest.mark.parametrize("length", [0, 1, 11, 12, 50, -1])
def test_a_file_that_was_cut_is_noticed(archived, read, length):
    archived.path.write_bytes(archived.path.read_bytes()[:length])
    with pytest.raises(EventArchiveError):
        read(archived)
    assert (Problem.CHANGED_ARCHIVE, 1, LAST) == found(archived)


def test_bytes_added_between_blocks_and_index_are_noticed(archived):
    content = archived.path.read_bytes()
    end = len(content) - framing.index_size(content[-framing.TRAILER_BYTES :])
    archived.path.write_bytes(content[:end] + b"more" + content[end:])
    assert (Problem.CHANGED_ARCHIVE, 1, LAST) == found(archived)


@pytest.mark.parametrize("position", range(1, LAST + 1))
def test_an_event_changed_in_a_file_is_found_where_it_is(archived, read, position):
    lines = [line for block in blocks_of(archived.path) for line in block]
    fields = orjson.loads(lines[position - 1].text)
    fields[8] = {"n": 999}
    lines[position - 1] = Line(orjson.dumps(fields), lines[position - 1].row_hash)
    rewrite(archived.path, lines)
    assert (Problem.CHANGED_ROW, position, position) == found(archived)
    with pytest.raises(EventArchiveError, match="another index"):
        read(archived)


def test_an_event_changed_with_its_hash_breaks_the_chain_of_its_commit(archived):
    lines = [line for block in blocks_of(archived.path) for line in block]
    fields = orjson.loads(lines[5].text)
    fields[8] = {"n": 999}
    changed = orjson.dumps(fields)
    lines[5] = Line(changed, hashlib.sha256(changed).digest())
    rewrite(archived.path, lines)
    assert (Problem.BROKEN_CHAIN, 4, 7) == found(archived)


def test_an_event_that_is_none_under_its_own_hash_is_found(archived):
    lines = [line for block in blocks_of(archived.path) for line in block]
    lines[2] = Line(b"[]", hashlib.sha256(b"[]").digest())
    rewrite(archived.path, lines)
    assert (Problem.CHANGED_ROW, 3, 3) == found(archived)


def test_events_swapped_in_a_file_are_found_at_the_first(archived):
    lines = [line for block in blocks_of(archived.path) for line in block]
    lines[1], lines[7] = lines[7], lines[1]
    rewrite(archived.path, lines)
    assert (Problem.CHANGED_ROW, 2, 2) == found(archived)


def test_an_event_missing_in_a_file_is_found_where_it_was(archived):
    lines = [line for block in blocks_of(archived.path) for line in block]
    del lines[4]
    rewrite(archived.path, lines)
    problem, first, _ = found(archived)
    assert (Problem.CHANGED_ROW, 5) == (problem, first)
    rewrite(archived.path, [line for line in lines if line is not lines[-1]])
    assert 5 == found(archived)[1]


def test_a_cut_tail_of_a_file_is_found(archived):
    lines = [line for block in blocks_of(archived.path) for line in block]
    rewrite(archived.path, lines[:-1])
    assert (Problem.CHANGED_ARCHIVE, LAST, LAST) == found(archived)


def test_a_file_packed_anew_is_not_the_one_that_was_written(archived, monkeypatch):
    lines = [line for block in blocks_of(archived.path) for line in block]
    monkeypatch.setattr(framing, "LEVEL", 1)
    monkeypatch.setattr(writer, "BLOCK_EVENTS", 5)
    rewrite(archived.path, lines)
    assert (Problem.CHANGED_ARCHIVE, 1, LAST) == found(archived)


@pytest.mark.parametrize(
    ("change", "problem", "position"),
    [
        ("DELETE FROM event_archive", Problem.MISSING_ROW, 1),
        ("UPDATE event_archive SET first_position = 2", Problem.CHANGED_ARCHIVE, 2),
        ("UPDATE event_archive SET sha256 = sha256('')", Problem.CHANGED_ARCHIVE, 1),
        ("UPDATE event_archive SET file_name = 'x'", Problem.MISSING_ARCHIVE, 1),
        ("UPDATE event_archive SET last_position = 11", Problem.CHANGED_ARCHIVE, 11),
        (
            "UPDATE event_commit SET recorded_at = now() WHERE last_position = 7",
            Problem.CHANGED_COMMIT,
            4,
        ),
        (
            "UPDATE event_commit SET chain = sha256('') WHERE last_position = 7",
            Problem.BROKEN_CHAIN,
            4,
        ),
        ("DELETE FROM event_commit WHERE last_position = 7", Problem.MISSING_COMMIT, 4),
        (ADD_AGAIN, Problem.ADDED_ROW, 4),
    ],
)
def test_a_manifest_that_was_tampered_with_is_noticed(archived, change, problem, position):
    with archived.database.transaction() as work:
        work.session.execute(text("SET LOCAL rootstream.maintenance = 'on'"))
        work.session.execute(text(change))
    assert (problem, position) == found(archived)[:2]


def test_a_hole_in_the_manifest_is_not_passed_over(site):
    site.append(3, 4, 5, 6)
    for position in (4, 8, 13):
        site.archiver.archive(before_position=position)
    with site.database.transaction() as work:
        work.session.execute(text("SET LOCAL rootstream.maintenance = 'on'"))
        work.session.execute(text("DELETE FROM event_archive WHERE first_position = 4"))
    assert (Problem.MISSING_ROW, 4) == found(site)[:2]
    for read in (READERS["read_all"], READERS["follow"]):
        with pytest.raises(SyncError, match="no archive holds the events 4 to 7"):
            read(site)
