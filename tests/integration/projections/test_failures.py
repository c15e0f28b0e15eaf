"""Projections that cannot go on: seen, tried again, skipped, and nobody else's problem."""

from __future__ import annotations

import threading
import uuid

import pytest
from sqlalchemy import text

from rootstream_db.errors import ConflictError, LogDivergedError, ValidationError
from rootstream_db.services.projections import Outcome, ProjectionState
from tests.fixtures.tallies import Tally
from tests.integration.projections.test_running import DEADLINE, once, only, wait_until


@pytest.fixture
def sick(tally):
    sick = Tally("sick")
    sick.poison = {"Poisoned"}
    return sick


def state_of(projections, name="sick"):
    return next(status for status in projections.status() if status.name == name)


def test_a_poisoned_event_stops_its_own_projection_alone(process, tally, sick, say, seen):
    projections = process(tally, sick)
    say(7)
    say(1, "Poisoned")
    say(7)
    runs = {run.name: run for run in projections.run_once()}
    assert (Outcome.CURRENT, Outcome.FAILED) == (runs["tally"].outcome, runs["sick"].outcome)
    assert isinstance(runs["sick"].error, RuntimeError)
    assert once(range(1, 16)) == seen(tally)
    # What comes before the event is kept, the event itself left no trace.
    assert once(range(1, 8)) == seen(sick)


def test_what_stops_a_projection_is_seen_with_its_lag(process, sick, say, clock):
    projections = process(sick)
    say(1)
    say(1, "Poisoned")
    say(2)
    projections.run_once()
    status = state_of(projections)
    assert (ProjectionState.FAILED, 1, 4, 3) == (
        status.state,
        status.position,
        status.head,
        status.lag_events,
    )
    assert (1, 2, "RuntimeError: cannot digest Poisoned") == (
        status.attempts,
        status.failed_position,
        status.last_error,
    )
    assert clock() < status.retry_at


def test_lag_in_seconds_is_how_long_the_next_event_waits(projections, say, clock, events):
    say(1)
    projections.run_once()
    assert (0, 0.0) == (
        only(projections.status()).lag_events,
        only(projections.status()).lag_seconds,
    )
    say(2)
    waiting = next(events.read_all(after_position=1))
    clock.now = waiting.recorded_at
    clock.advance(90)
    status = only(projections.status())
    assert (ProjectionState.LAGGING, 2, 90.0) == (
        status.state,
        status.lag_events,
        status.lag_seconds,
    )


def test_a_failed_event_is_tried_again_later_and_later(process, sick, say, clock, seen):
    projections = process(sick)
    say(1, "Poisoned")
    projections.run_once()
    delays = []
    for _ in range(4):
        due = state_of(projections).retry_at
        delays.append((due - clock()).total_seconds())
        clock.now = due
        projections._runner.advance(sick, patient=True)
    assert [1.0, 2.0, 4.0, 8.0] == delays
    assert Outcome.FAILED == projections._runner.advance(sick, patient=True).outcome
    assert 5 == state_of(projections).attempts
    sick.poison = set()
    assert Outcome.CURRENT == only(projections.run_once()).outcome
    status = state_of(projections)
    assert (ProjectionState.CURRENT, 0, None, None) == (
        status.state,
        status.attempts,
        status.last_error,
        status.retry_at,
    )
    assert once([1]) == seen(sick)


def test_a_running_projection_says_what_stops_it_and_lets_go_when_told(process, sick, say, seen):
    stop = threading.Event()
    projections = process(sick)
    running = threading.Thread(target=projections.run, kwargs={"stop": stop}, daemon=True)
    say(1, "Poisoned")
    running.start()
    try:
        wait_until(lambda: ProjectionState.FAILED == state_of(projections).state)
    finally:
        stop.set()
        running.join(DEADLINE)
    assert state_of(projections).owner is None
    # The clock of the test stands still: an operator's run does not wait for the next try.
    sick.poison = set()
    assert 1 == only(projections.run_once()).events
    assert once([1]) == seen(sick)


def test_an_error_of_the_database_counts_as_the_projection_s(process, tally, say):
    class Broken(Tally):
        def apply(self, work, event):
            work.session.execute(text("SELECT 1 / 0"))

    projections = process(Broken())
    say(3)
    run = only(projections.run_once())
    assert (Outcome.FAILED, 0) == (run.outcome, run.events)
    assert "division by zero" in state_of(projections, "tally").last_error


def test_an_operator_skips_an_event_and_it_is_recorded(process, sick, say, seen, events):
    projections = process(sick)
    say(1)
    say(1, "Poisoned")
    say(1)
    projections.run_once()
    projections.skip("sick", 2, reason="test data", user_id=7)
    assert Outcome.CURRENT == only(projections.run_once()).outcome
    assert once([1, 3]) == seen(sick)
    (skipped,) = events.read("Projection", "sick")
    assert ("ProjectionEventSkipped", 7) == (skipped.event_type, skipped.user_id)
    assert {
        "position": 2,
        "reason": "test data",
        "error": "RuntimeError: cannot digest Poisoned",
    } == skipped.data


def test_only_the_event_that_stops_a_projection_can_be_skipped(process, sick, say):
    projections = process(sick)
    say(1)
    projections.run_once()
    with pytest.raises(ConflictError, match="stopped by no event, not by event 1"):
        projections.skip("sick", 1, reason="no reason")
    with pytest.raises(ValidationError):
        projections.skip("sick", 1, reason=" ")


@pytest.mark.parametrize("epoch", ["gen_random_uuid()", "epoch"], ids=["told", "untold"])
def test_after_a_restore_a_projection_stands_still_until_rebuilt(
    projections, committed_database, say, epoch, seen
):
    say(3)
    projections.run_once()
    with committed_database.transaction() as work:
        for statement in (
            "SET LOCAL rootstream.maintenance = 'on'",
            "DELETE FROM event_log WHERE position > 1",
            "UPDATE event_stream SET version = 1",
            f"UPDATE event_log_head SET last_position = 1, epoch = {epoch}",
        ):
            work.session.execute(text(statement))
    run = only(projections.run_once())
    assert Outcome.DIVERGED == run.outcome
    assert isinstance(run.error, LogDivergedError)
    assert "Rebuild it" in str(run.error)
    assert ProjectionState.DIVERGED == only(projections.status()).state
    assert once([1, 2, 3]) == seen()
    assert Outcome.CURRENT == projections.rebuild("tally").outcome
    assert once([1]) == seen()
    assert ProjectionState.CURRENT == only(projections.status()).state


def test_an_epoch_of_another_log_is_refused(projections, committed_database, say):
    projections._chosen(())
    with committed_database.transaction() as work:
        work.checkpoints.save(work.checkpoints.lock_one("tally"), {"epoch": uuid.uuid4()})
    say(1)
    assert Outcome.DIVERGED == only(projections.run_once()).outcome


def test_an_event_of_a_newer_release_stops_those_who_want_it_alone(
    process, tally, committed_database, events, say, seen
):
    events.upcasters.declare("Counted", version=1)
    projections = process(tally)
    say(7)
    with committed_database.transaction() as work:
        events.append(work, "Thing", "1", "Counted", {}, schema_version=2)
    say(1)
    run = only(projections.run_once())
    assert (Outcome.FAILED, 7) == (run.outcome, run.position)
    assert once(range(1, 8)) == seen()
    status = state_of(projections, "tally")
    assert (8, 1) == (status.failed_position, status.attempts)
    assert "event 8 is a Counted of version 2" in status.last_error
    events.upcasters.declare("Counted", version=2)
    events.upcasters.upcasts("Counted", from_version=1)(lambda data: data)
    assert Outcome.CURRENT == only(projections.run_once()).outcome
    assert once(range(1, 10)) == seen()
