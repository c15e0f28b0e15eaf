"""The state an aggregate had: at a version, at a moment, with snapshots before and after it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from rootstream_db.errors import ValidationError

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def total(state, event):
    return {"sum": state.get("sum", 0) + event.data["n"]}


@pytest.fixture
def history(database, events):
    """Five events of one aggregate, recorded a minute apart."""
    for number in range(1, 6):
        with database.transaction() as work:
            events.append(work, "Sum", "1", "Added", {"n": number})
    with database.transaction() as work:
        work.session.execute(text("SET LOCAL rootstream.maintenance = 'on'"))
        work.session.execute(
            text("UPDATE event_log SET recorded_at = :start + version * interval '1 minute'"),
            {"start": LONG_AGO},
        )
    return events


@pytest.mark.parametrize(
    ("version", "state"), [(0, {}), (1, {"sum": 1}), (3, {"sum": 6}), (5, {"sum": 15})]
)
def test_the_state_at_a_version(history, version, state):
    assert (state, version) == history.replay("Sum", "1", total, {}, to_version=version)


def test_a_version_not_reached_yet_is_the_latest(history):
    assert ({"sum": 15}, 5) == history.replay("Sum", "1", total, {}, to_version=9)


@pytest.mark.parametrize(("seconds", "version"), [(0, 0), (60, 1), (119, 1), (180, 3), (9999, 5)])
def test_the_state_at_a_moment_is_made_of_what_was_recorded_by_then(history, seconds, version):
    moment = LONG_AGO + timedelta(seconds=seconds)
    replayed = history.replay("Sum", "1", total, {}, to_time=moment)
    assert history.replay("Sum", "1", total, {}, to_version=version) == replayed
    assert version == replayed.version


def test_of_a_version_and_a_moment_the_earlier_counts(history):
    moment = LONG_AGO + timedelta(minutes=3)
    for version, reached in ((2, 2), (4, 3)):
        replayed = history.replay("Sum", "1", total, {}, to_version=version, to_time=moment)
        assert reached == replayed.version


def test_a_snapshot_after_the_moment_is_left_aside_and_one_before_it_used(history):
    # Sums nobody could get from the events, so that their use shows.
    history.create_snapshot("Sum", "1", {"sum": 1000}, 2)
    history.create_snapshot("Sum", "1", {"sum": 9000}, 4)
    assert ({"sum": 1}, 1) == history.replay("Sum", "1", total, {}, to_version=1)
    assert ({"sum": 1003}, 3) == history.replay("Sum", "1", total, {}, to_version=3)
    assert ({"sum": 9005}, 5) == history.replay("Sum", "1", total, {})


def test_what_makes_no_sense_is_refused(history):
    with pytest.raises(ValidationError, match="to_version"):
        history.replay("Sum", "1", total, {}, to_version=-1)
    with pytest.raises(ValidationError, match="to_time"):
        history.replay("Sum", "1", total, {}, to_time=LONG_AGO.replace(tzinfo=None))
