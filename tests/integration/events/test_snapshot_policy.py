"""Snapshots that take themselves: when, of what, and what happens if one cannot be taken."""

from __future__ import annotations

import pytest

from rootstream_db.errors import ConflictError, NotFoundError, ValidationError
from rootstream_db.services.event_store import Aggregate, EventStore, NewEvent, SnapshotPolicy


def total(state, event):
    # Changes what it was given, as careless rules do.
    state["sum"] = state.get("sum", 0) + event.data["n"]
    return state


@pytest.fixture
def add(database, events):
    def append(number, aggregate_id="1"):
        many = [NewEvent(event_type="Added", data={"n": 1}) for _ in range(number)]
        with database.transaction() as work:
            events.append_many(work, "Sum", aggregate_id, many)

    return append


def snapshot(events, aggregate_id="1", **options):
    found = events.get_latest_snapshot("Sum", aggregate_id, **options)
    return found and (found.version, found.state)


@pytest.fixture
def every_ten(events):
    events.register("Sum", Aggregate(apply=total, policy=SnapshotPolicy(every=10)))


@pytest.mark.usefixtures("every_ten")
def test_a_snapshot_is_taken_when_enough_events_are_stored(events, add):
    add(9)
    assert snapshot(events) is None
    add(1)
    assert (10, {"sum": 10}) == snapshot(events)
    add(9)
    assert (10, {"sum": 10}) == snapshot(events)
    # One unit that passes several at once.
    add(25)
    assert (44, {"sum": 44}) == snapshot(events)
    assert snapshot(events, "2") is None


def test_the_default_is_a_hundred(events, add):
    events.register("Sum", Aggregate(apply=total))
    add(99)
    assert snapshot(events) is None
    add(1)
    assert (100, {"sum": 100}) == snapshot(events)


def test_a_snapshot_is_taken_when_the_events_since_the_last_are_long(events, add):
    # The data of each is {"n": 1}, eight bytes.
    events.register("Sum", Aggregate(apply=total, policy=SnapshotPolicy(every=100, bytes=24)))
    taken = []
    for _ in range(7):
        add(1)
        taken.append(snapshot(events))
    third, sixth = (3, {"sum": 3}), (6, {"sum": 6})
    assert [None, None, third, third, third, sixth, sixth] == taken


def test_what_nobody_registered_has_none(events, add):
    add(200)
    assert snapshot(events) is None


@pytest.mark.usefixtures("every_ten")
def test_a_rolled_back_unit_takes_none(database, events):
    many = [NewEvent(event_type="Added", data={"n": 1}) for _ in range(10)]
    with pytest.raises(RuntimeError), database.transaction() as work:
        events.append_many(work, "Sum", "1", many)
        raise RuntimeError
    assert snapshot(events) is None


def test_a_snapshot_that_cannot_be_taken_fails_nobody(database, events, add):
    def broken(state, event):
        raise RuntimeError("no")

    events.register("Sum", Aggregate(apply=broken, policy=SnapshotPolicy(every=1)))
    add(1)
    assert 1 == sum(1 for _ in events.read("Sum", "1"))
    assert 1 == database.after_commit_failures
    assert snapshot(events) is None


@pytest.mark.usefixtures("every_ten")
def test_an_aggregate_is_loaded_by_its_rules_now_and_then(events, add):
    add(12)
    for _ in range(2):
        assert ({"sum": 12}, 12) == events.load("Sum", "1")
    assert ({"sum": 3}, 3) == events.load("Sum", "1", to_version=3)
    assert ({}, 0) == events.load("Sum", "2")


@pytest.mark.usefixtures("every_ten")
def test_snapshots_of_other_rules_are_left_aside(database, events, clock, add):
    add(10)

    def doubled(state, event):
        return {"sum": state.get("sum", 0) + 2 * event.data["n"]}

    newer = EventStore(database, clock=clock)
    newer.register("Sum", Aggregate(apply=doubled, state_schema=2))
    assert ({"sum": 20}, 10) == newer.load("Sum", "1")
    assert ({"sum": 10}, 10) == events.load("Sum", "1")


@pytest.mark.usefixtures("every_ten")
def test_rules_are_told_once_and_asked_for_by_name(events):
    with pytest.raises(ConflictError):
        events.register("Sum", Aggregate(apply=total))
    with pytest.raises(NotFoundError):
        events.load("Product", "1")
    for wrong in ({"every": 0}, {"bytes": 0}):
        with pytest.raises(ValidationError):
            SnapshotPolicy(**wrong)
