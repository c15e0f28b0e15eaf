"""Replay and the snapshots it starts from."""

from __future__ import annotations

import logging

import pytest
import sqlalchemy as sa

from rootstream_db.errors import SnapshotCorruptError, SyncError, ValidationError
from rootstream_db.models.events import Snapshot
from rootstream_db.services.event_store import EventStore, NewEvent


@pytest.fixture
def three(database, events):
    append(database, events, 1, 2, 3)


def append(database, events, *numbers):
    with database.transaction() as work:
        events.append_many(
            work, "Stream", "7", [NewEvent(event_type="Added", data={"n": n}) for n in numbers]
        )


def add(state, event):
    return {"sum": state["sum"] + event.data["n"], "seen": [*state["seen"], event.version]}


EMPTY = {"sum": 0, "seen": []}


def test_replay_adds_up_the_events(three, events):
    replayed = events.replay("Stream", "7", add, EMPTY)
    assert ({"sum": 6, "seen": [1, 2, 3]}, 3) == replayed
    assert (replayed.state, replayed.version) == replayed


def test_replay_of_nothing_is_the_initial_state(events):
    assert (EMPTY, 0) == events.replay("Stream", "none", add, EMPTY)


def test_a_state_need_not_be_a_dictionary(three, events):
    events.create_snapshot("Stream", "7", EMPTY, 3)
    assert (3, 3) == events.replay("Stream", "7", lambda count, _: count + 1, 0)


def test_replay_starts_from_the_latest_snapshot(database, three, events):
    events.create_snapshot("Stream", "7", {"sum": 100, "seen": []}, 2)
    assert ({"sum": 103, "seen": [3]}, 3) == events.replay("Stream", "7", add, EMPTY)
    append(database, events, 4)
    assert ({"sum": 107, "seen": [3, 4]}, 4) == events.replay("Stream", "7", add, EMPTY)
    events.create_snapshot("Stream", "7", {"sum": 200, "seen": []}, 4)
    assert ({"sum": 200, "seen": []}, 4) == events.replay("Stream", "7", add, EMPTY)


def test_a_snapshot_that_nothing_follows_is_all_that_is_read(database, three, events, statements):
    events.create_snapshot("Stream", "7", {"sum": 100, "seen": []}, 2)
    events.create_snapshot("Stream", "7", {"sum": 200, "seen": []}, 3)
    with database.transaction() as work, statements(work) as made:
        for last, total in ((None, 200), (3, 200), (2, 100)):
            made.clear()
            found = events.replay("Stream", "7", add, EMPTY, to_version=last, work=work)
            assert (total, 1) == (found.state["sum"], len(made))


def test_a_snapshot_of_what_was_replayed_changes_nothing(database, three, events):
    before = events.replay("Stream", "7", add, EMPTY)
    events.create_snapshot("Stream", "7", *before)
    assert before == events.replay("Stream", "7", add, EMPTY)


def test_a_snapshot_comes_back_as_it_was_saved(three, events, clock):
    state = {"sum": 1e16, "minus": -0.0, "text": "ü€😀", "deep": [{"x": None}]}
    events.create_snapshot("Stream", "7", state, 2, state_schema=4)
    snapshot = events.get_latest_snapshot("Stream", "7", state_schema=4)
    assert (state, 2, 4, True) == (
        snapshot.state,
        snapshot.version,
        snapshot.state_schema,
        snapshot.intact,
    )
    assert "sum" not in repr(snapshot)


def test_an_aggregate_without_snapshots_has_no_latest(three, events):
    assert events.get_latest_snapshot("Stream", "7") is None


def test_a_snapshot_of_another_form_is_left_aside(three, events):
    events.create_snapshot("Stream", "7", {"old": "form"}, 3, state_schema=1)
    assert ({"sum": 6, "seen": [1, 2, 3]}, 3) == events.replay(
        "Stream", "7", add, EMPTY, state_schema=2
    )
    assert events.get_latest_snapshot("Stream", "7", state_schema=2) is None


def test_a_second_snapshot_of_a_version_replaces_the_first(three, events):
    events.create_snapshot("Stream", "7", {"x": 1}, 3)
    events.create_snapshot("Stream", "7", {"x": 2}, 3)
    assert {"x": 2} == events.get_latest_snapshot("Stream", "7").state


def test_two_snapshots_of_an_aggregate_are_kept(database, three, events):
    append(database, events, 4)
    with database.transaction() as work:
        events.append(work, "Stream", "8", "Added", {"n": 1})
        events.create_snapshot("Stream", "8", {}, 1, work=work)
    for version in (1, 2, 3, 4):
        events.create_snapshot("Stream", "7", {}, version)
    with database.read() as work:
        kept = work.session.execute(
            sa.select(Snapshot.aggregate_id, Snapshot.version).order_by(*Snapshot.__table__.c[:3])
        )
        assert [("7", 3), ("7", 4), ("8", 1)] == list(kept)


@pytest.mark.parametrize("version", [4, 0, -1])
def test_a_snapshot_of_a_version_that_is_not_there_is_refused(three, events, version):
    with pytest.raises(ValidationError, match="not at version"):
        events.create_snapshot("Stream", "7", {}, version)


def test_a_snapshot_of_an_unknown_aggregate_is_refused(events):
    with pytest.raises(ValidationError, match="Stream/none is not at version 1"):
        events.create_snapshot("Stream", "none", {}, 1)


def test_a_state_that_is_not_json_is_refused(three, events):
    with pytest.raises(ValidationError, match=r"state\.x"):
        events.create_snapshot("Stream", "7", {"x": {1, 2}}, 3)


def test_a_unit_can_snapshot_what_it_appends(database, events):
    with database.transaction() as work:
        events.append(work, "Stream", "7", "Added", {"n": 5})
        events.create_snapshot("Stream", "7", {"sum": 5, "seen": [1]}, 1, work=work)
        assert ({"sum": 5, "seen": [1]}, 1) == events.replay("Stream", "7", add, EMPTY, work=work)


def test_a_snapshot_goes_with_the_unit_it_was_made_in(database, three, events):
    with pytest.raises(RuntimeError), database.transaction() as work:
        events.create_snapshot("Stream", "7", {}, 3, work=work)
        raise RuntimeError
    assert events.get_latest_snapshot("Stream", "7") is None


def test_a_snapshot_of_an_uncommitted_event_is_refused(committed_database):
    events = EventStore(committed_database)
    with committed_database.transaction() as work:
        events.append(work, "Stream", "7", "Added", {"n": 5})
        events.flush(work)
        with pytest.raises(ValidationError):
            events.create_snapshot("Stream", "7", {"sum": 5}, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"state": {"sum": 7, "seen": [1, 2, 3]}},
        {"version": 2},
        {"aggregate_id": "8"},
        {"state_schema": 2},
        {"checksum": b"\0" * 32},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_snapshot_is_noticed_and_replay_does_without(
    database, three, events, caplog, change
):
    events.create_snapshot("Stream", "7", {"sum": 6, "seen": [1, 2, 3]}, 3)
    with database.transaction() as work:
        work.session.execute(sa.update(Snapshot).values(change))
    asked = {"state_schema": change.get("state_schema", 1)}
    where = ("Stream", change.get("aggregate_id", "7"))
    with pytest.raises(SnapshotCorruptError) as raised:
        events.get_latest_snapshot(*where, **asked)
    assert isinstance(raised.value, SyncError)
    assert ("/".join(where), change.get("version", 3)) == (
        raised.value.aggregate,
        raised.value.version,
    )
    with caplog.at_level(logging.WARNING):
        replayed = events.replay(*where, add, EMPTY, **asked)
    assert (6 if where[1] == "7" else 0) == replayed.state["sum"]
    assert f"the snapshot of {'/'.join(where)}" in caplog.text
