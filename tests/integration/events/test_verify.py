"""Verifying: whatever was done to the log behind its back is named, at the position it was done."""

from __future__ import annotations

import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text

from rootstream_db.errors import NotFoundError, SyncError, ValidationError
from rootstream_db.services.event_store import Problem, append_anchor, read_anchors
from rootstream_db.services.event_store.verification import LogVerifier

# Commits of the log below: 1 | 2 3 4 | 5 | 6 7
COMMITS = (1, 3, 1, 2)

REHASH = """
    row_hash = event_row_hash(log_id, position, event_id, aggregate_type, aggregate_id, version,
        event_type, schema_version, {data}, metadata, user_id, subject_id, correlation_id,
        causation_id, occurred_at, recorded_at)
"""
FLIPPED = "set_byte({0}, 0, get_byte({0}, 0) # 1)"
ADD = """
    INSERT INTO event_log SELECT {log_id}, {position}, gen_random_uuid(), 'Added', '1', 1, 'Added',
        1, '{{}}', '{{}}', NULL, NULL, NULL, NULL, now(), now(), sha256('')
"""


@pytest.fixture
def log(database, events):
    """A log of four commits, seven events."""
    for count in COMMITS:
        with database.transaction() as work:
            for number in range(count):
                events.append(
                    work, "Stream", "7", "Happened", {"n": number}, metadata={"from": "here"}
                )
    return events


@pytest.fixture
def tamper(database):
    """Change the log as somebody does who owns the database."""

    def change(*statements: str) -> None:
        with database.transaction() as work:
            work.session.execute(text("SET LOCAL rootstream.maintenance = 'on'"))
            for statement in statements:
                work.session.execute(text(statement.replace(":", "\\:")))

    return change


def found(events, **options):
    result = events.verify(**options)
    assert not result.ok
    return result.finding.problem, result.finding.position, result.finding.last


def test_an_untouched_log_holds(log):
    seen: list[int] = []
    result = log.verify(progress=seen.append)
    assert (True, 7, 7, 0) == (
        result.ok,
        result.events,
        result.head.last_position,
        result.anchors,
    )
    assert 7 == sum(seen)


def test_an_empty_log_holds(events):
    anchor = events.anchor()
    assert (0, 1) == (events.verify().events, events.verify(anchors=[anchor]).anchors)


@pytest.mark.parametrize("page", [1, 2, 3, 7])
def test_the_size_of_a_page_does_not_matter(database, log, tamper, page):
    assert 7 == LogVerifier(database, page=page).verify(0).events
    tamper("DELETE FROM event_log WHERE position = 6")
    finding = LogVerifier(database, page=page).verify(0).finding
    assert finding is not None
    assert (Problem.MISSING_ROW, 6) == (finding.problem, finding.position)


@pytest.mark.parametrize("position", range(1, 8))
@pytest.mark.parametrize(
    "change",
    [
        """data = '{"n": 9}'""",
        "metadata = '{}'",
        "event_type = 'Happenee'",
        "aggregate_id = '8'",
        "user_id = 1",
        "occurred_at = occurred_at + interval '1 microsecond'",
        "recorded_at = recorded_at - interval '1 microsecond'",
        f"row_hash = {FLIPPED.format('row_hash')}",
    ],
)
def test_a_changed_byte_of_a_row_is_found_where_it_is(log, tamper, change, position):
    tamper(f"UPDATE event_log SET {change} WHERE position = {position}")
    assert (Problem.CHANGED_ROW, position, position) == found(log)


@pytest.mark.parametrize("position", range(1, 8))
def test_a_deleted_row_is_found_where_it_was(log, tamper, position):
    tamper(f"DELETE FROM event_log WHERE position = {position}")
    problem, first, _ = found(log)
    assert (Problem.MISSING_ROW, position) == (problem, first)


def test_swapped_rows_are_found_at_the_first(log, tamper):
    tamper(
        "UPDATE event_log SET position = 99 WHERE position = 3",
        "UPDATE event_log SET position = 3 WHERE position = 5",
        "UPDATE event_log SET position = 5 WHERE position = 99",
    )
    assert (Problem.CHANGED_ROW, 3, 3) == found(log)


@pytest.mark.parametrize(
    ("one", "other", "first", "last"), [(2, 3, 2, 4), (3, 5, 2, 4), (6, 7, 6, 7), (1, 7, 1, 1)]
)
def test_rows_swapped_with_skill_break_the_chain_in_the_commit_of_the_first(
    log, tamper, one, other, first, last
):
    tamper(
        f"UPDATE event_log SET position = 99 WHERE position = {one}",
        f"UPDATE event_log SET position = {one} WHERE position = {other}",
        f"UPDATE event_log SET position = {other} WHERE position = 99",
        f"UPDATE event_log SET {REHASH.format(data='data')} WHERE position IN ({one}, {other})",
    )
    assert (Problem.BROKEN_CHAIN, first, last) == found(log)


@pytest.mark.parametrize(("log_id", "position"), [(0, 8), (0, 12), (1, 3)])
def test_an_added_row_is_found_where_it_is(log, tamper, log_id, position):
    tamper(ADD.format(log_id=log_id, position=position))
    assert (Problem.ADDED_ROW, position, position) == found(log)


@pytest.mark.parametrize(
    ("position", "first", "last"), [(1, 1, 1), (3, 2, 4), (5, 5, 5), (7, 6, 7)]
)
def test_a_row_rewritten_with_its_hash_breaks_the_chain_in_its_commit(
    log, tamper, position, first, last
):
    data = """'{"n": 9}'::jsonb"""
    tamper(
        f"UPDATE event_log SET data = {data}, {REHASH.format(data=data)} "
        f"WHERE position = {position}"
    )
    assert (Problem.BROKEN_CHAIN, first, last) == found(log)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (f"chain = {FLIPPED.format('chain')}", (Problem.BROKEN_CHAIN, 2, 4)),
        ("recorded_at = recorded_at + interval '1 microsecond'", (Problem.CHANGED_COMMIT, 2, 4)),
        ("events = 2", (Problem.MISSING_COMMIT, 2, 2)),
        ("events = 4", (Problem.ADDED_COMMIT, 4, 4)),
        ("events = 0", (Problem.CHANGED_COMMIT, 4, 4)),
    ],
)
def test_a_changed_commit_is_found(log, tamper, change, expected):
    tamper(f"UPDATE event_commit SET {change} WHERE last_position = 4")
    assert expected == found(log)


@pytest.mark.parametrize(("last", "first"), [(1, 1), (4, 2), (5, 5), (7, 6)])
def test_a_deleted_commit_is_found_at_its_first_event(log, tamper, last, first):
    tamper(f"DELETE FROM event_commit WHERE last_position = {last}")
    assert (Problem.MISSING_COMMIT, first, first) == found(log)


def test_an_added_commit_is_found(log, tamper):
    tamper("INSERT INTO event_commit SELECT log_id, 3, 1, chain FROM event_commit LIMIT 1")
    assert (Problem.MISSING_COMMIT, 2, 2) == found(log)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("last_position = 8", (Problem.MISSING_ROW, 8, 8)),
        ("last_position = 9", (Problem.MISSING_ROW, 8, 9)),
        ("last_position = 6", (Problem.ADDED_ROW, 7, 7)),
        ("last_position = 5", (Problem.ADDED_ROW, 6, 6)),
        ("last_position = 0", (Problem.ADDED_ROW, 1, 1)),
        (f"chain = {FLIPPED.format('chain')}", (Problem.MOVED_HEAD, 7, 7)),
    ],
)
def test_a_moved_head_is_found(log, tamper, change, expected):
    tamper(f"UPDATE event_log_head SET {change}")
    assert expected == found(log)


def test_a_log_without_a_head_is_missing(log, tamper):
    tamper("DELETE FROM event_log_head")
    with pytest.raises(NotFoundError, match="event log"):
        log.verify()


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        (["DELETE FROM event_log WHERE position > 3"], (Problem.MISSING_ROW, 4, 4)),
        (["DELETE FROM event_log WHERE position > 5"], (Problem.MISSING_ROW, 6, 6)),
        (
            [
                "DELETE FROM event_log WHERE position > 4",
                "DELETE FROM event_commit WHERE last_position > 4",
            ],
            (Problem.MISSING_ROW, 5, 7),
        ),
        (
            # What is left beyond the head is the row of a commit.
            [
                "DELETE FROM event_log WHERE position > 4",
                "UPDATE event_log_head SET last_position = 4",
            ],
            (Problem.ADDED_COMMIT, 5, 5),
        ),
        (
            [
                "DELETE FROM event_log WHERE position > 4",
                "DELETE FROM event_commit WHERE last_position > 4",
                "UPDATE event_log_head SET last_position = 4",
            ],
            (Problem.MOVED_HEAD, 4, 4),
        ),
    ],
)
def test_a_tail_cut_without_skill_is_found_without_an_anchor(log, tamper, cut, expected):
    tamper(*cut)
    assert expected == found(log)


def test_a_log_cut_to_nothing_with_skill_is_found_by_an_anchor_only(log, tamper):
    anchor = log.anchor()
    tamper(
        "DELETE FROM event_log",
        "DELETE FROM event_commit",
        "UPDATE event_log_head SET last_position = 0, chain = decode(repeat('00', 32), 'hex')",
    )
    assert log.verify().ok
    assert (Problem.TRUNCATED_TAIL, 1, 7) == found(log, anchors=[anchor])


def cut_tail(tamper) -> None:
    """Undo the last commit so well that the database alone cannot tell."""
    tamper(
        "DELETE FROM event_log WHERE position > 5",
        "DELETE FROM event_commit WHERE last_position > 5",
        "UPDATE event_log_head AS head SET last_position = 5, chain = event_commit.chain "
        "FROM event_commit WHERE event_commit.last_position = 5",
    )


def test_a_tail_cut_with_skill_is_found_by_an_anchor_only(log, tamper):
    anchor = log.anchor()
    assert (True, 1) == (log.verify(anchors=[anchor]).ok, log.verify(anchors=[anchor]).anchors)
    cut_tail(tamper)
    assert log.verify().ok
    assert (Problem.TRUNCATED_TAIL, 6, 7) == found(log, anchors=[anchor])


def test_a_tail_rewritten_with_skill_is_found_after_the_last_anchor_that_holds(
    database, log, tamper
):
    last = log.anchor()
    cut_tail(tamper)
    before = log.anchor()
    with database.transaction() as work:
        for _ in range(2):
            log.append(work, "Stream", "8", "Forged", {})
    assert log.verify(anchors=[before]).ok
    assert (Problem.BROKEN_CHAIN, 6, 7) == found(log, anchors=[last, before])


def test_an_anchor_inside_a_commit_does_not_hold(log):
    anchor = dataclasses.replace(log.anchor(), last_position=3)
    assert (Problem.BROKEN_CHAIN, 1, 3) == found(log, anchors=[anchor])


def test_an_anchor_of_before_a_restore_names_the_other_history(database, log, tamper):
    anchor = log.anchor()
    cut_tail(tamper)
    with database.transaction() as work:
        log.begin_epoch(work)
    assert (Problem.OTHER_HISTORY, 1, 7) == found(log, anchors=[anchor])


@pytest.mark.parametrize(("after", "start"), [(1, 1), (2, 1), (3, 1), (4, 4), (6, 5), (7, 7)])
def test_verifying_begins_at_the_commit_of_a_position(log, tamper, after, start):
    anchors = [log.anchor()]
    tamper("UPDATE event_log SET user_id = 9 WHERE position = 1")
    result = log.verify(after_position=after, anchors=anchors)
    assert (True, start, 7 - start, 1) == (
        result.ok,
        result.after_position,
        result.events,
        result.anchors,
    )


def test_signed_anchors_come_back_from_their_file(log, tmp_path):
    key, file = Ed25519PrivateKey.generate(), tmp_path / "anchors.jsonl"
    for _ in range(2):
        append_anchor(file, log.anchor(), key)
    anchors = list(read_anchors(file, key.public_key()))
    assert [log.anchor()] * 2 == anchors
    assert 2 == log.verify(anchors=anchors).anchors


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"last_position":7', b'"last_position":6'),
        (b'"chain":"', b'"chain":"00'),
        (b'"signature":"', b'"signature":"!'),
        (b'"signature"', b'"signed"'),
    ],
)
def test_a_changed_anchor_is_not_by_the_key(log, tmp_path, old, new):
    key, file = Ed25519PrivateKey.generate(), tmp_path / "anchors.jsonl"
    append_anchor(file, log.anchor(), key)
    file.write_bytes(file.read_bytes().replace(old, new))
    with pytest.raises(SyncError, match="line 1: the anchor is not signed by this key"):
        list(read_anchors(file, key.public_key()))


def test_an_unsigned_anchor_is_read_without_a_key_and_refused_with_one(log, tmp_path):
    file = tmp_path / "anchors.jsonl"
    append_anchor(file, log.anchor())
    assert [log.anchor()] == list(read_anchors(file))
    with pytest.raises(SyncError):
        list(read_anchors(file, Ed25519PrivateKey.generate().public_key()))


@pytest.mark.parametrize("line", [b"x", b"[]", b"{}", b'{"log_id":0,"epoch":7}', b"\xff\xfe"])
def test_a_line_that_is_no_anchor_is_refused(tmp_path, line):
    file = tmp_path / "anchors.jsonl"
    file.write_bytes(line + b"\n")
    with pytest.raises(ValidationError, match="line 1"):
        list(read_anchors(file))
