"""An event id names one event for ever, also when the event is in a file."""

from __future__ import annotations

import threading
import uuid
from dataclasses import replace

import pytest

from rootstream_db.correlation import correlation
from rootstream_db.errors import ConflictError
from rootstream_db.services.event_store import NEW, NewEvent


@pytest.fixture
def given():
    """Three events with ids of their own."""
    return [
        NewEvent(
            event_type="Voted",
            data={"n": n, "share": 0.5},
            metadata={"from": "here"},
            event_id=uuid.uuid4(),
            user_id=7,
        )
        for n in range(3)
    ]


def append(site, events, aggregate_id="0", **options):
    with site.database.transaction() as work:
        return site.events.append_many(work, "Poll", aggregate_id, events, **options)


def places(events):
    return [(event.position, event.version, event.recorded_at) for event in events]


def test_a_repeated_append_gets_the_original_places(site, given):
    site.append(2)
    first = append(site, given)
    site.archiver.archive(keep=0)
    with correlation("another request"):
        again = append(site, given, expected_version=NEW)
    assert all(event.duplicate for event in again)
    assert places(first) == places(again)
    assert 5 == site.events.head().last_position
    following = append(site, [NewEvent(event_type="Voted", data={})])
    assert first[-1].version + 1 == following[0].version
    assert site.events.verify().ok


@pytest.mark.parametrize(
    "change",
    [
        {"event_type": "B"},
        {"data": {"n": 2}},
        {"metadata": {"x": 1}},
        {"schema_version": 2},
        {"user_id": 5},
        {"subject_id": uuid.UUID(int=1)},
        {"causation_id": uuid.UUID(int=1)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_event_under_an_archived_id_is_refused(site, given, change):
    append(site, given)
    site.archiver.archive(keep=0)
    with pytest.raises(ConflictError, match="taken by other events"):
        append(site, [replace(given[0], **change)])
    assert 3 == site.events.head().last_position


def test_an_archived_id_does_not_move_to_another_aggregate(site, given):
    append(site, given)
    site.archiver.archive(keep=0)
    with pytest.raises(ConflictError, match="taken by other events"):
        append(site, given, "1")


def test_a_batch_of_which_a_part_is_archived_is_judged_as_a_whole(site, given):
    first = append(site, given[:2]), append(site, given[2:])
    site.archiver.archive(keep=1)
    again = append(site, given)
    assert places([*first[0], *first[1]]) == places(again)
    with pytest.raises(ConflictError, match="taken by other events"):
        append(site, [*given, NewEvent(event_type="Voted", data={})])


def test_a_retry_inside_a_savepoint_is_not_written_again_at_the_commit(site, given):
    append(site, given)
    site.archiver.archive(keep=0)
    with site.database.transaction() as work:
        with work.savepoint():
            again = site.events.append_many(work, "Poll", "0", given)
            site.events.flush(work)
        new = site.events.append(work, "Poll", "0", "Voted", {})
    assert [1, 2, 3] == [event.position for event in again]
    assert 4 == new.position


def test_ids_noted_by_a_run_that_was_killed_harm_nobody(site, given, monkeypatch):
    first = append(site, given)
    with monkeypatch.context() as patch:
        patch.setattr(type(site.archiver), "_move", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            site.archiver.archive(keep=0)
    assert places(first) == places(append(site, given))
    site.archiver.archive(keep=0)
    assert places(first) == places(append(site, given))


def test_retries_beside_an_archiver_double_nothing(site, given):
    events = [[replace(event, event_id=uuid.uuid4()) for event in given] for _ in range(20)]
    first = [append(site, batch) for batch in events]
    done = threading.Event()
    wrong = []

    def retry():
        while not done.is_set():
            again = [append(site, batch) for batch in events]
            if list(map(places, again)) != list(map(places, first)):
                wrong.append(again)

    writers = [threading.Thread(target=retry) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        for position in range(4, 62, 3):
            site.archiver.archive(before_position=position)
    finally:
        done.set()
        for writer in writers:
            writer.join()
    assert [] == wrong
    assert 60 == site.events.head().last_position
    assert site.events.verify().ok
