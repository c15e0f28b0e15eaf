"""Running projections: what is applied, how often, and by whom."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest

from rootstream_db.errors import ConflictError, NotFoundError
from rootstream_db.services.event_store import EventStore, Wakeup
from rootstream_db.services.projections import Outcome, Projections, ProjectionState
from tests.fixtures.tallies import Tally

DEADLINE = 30.0


def once(positions):
    return dict.fromkeys(positions, 1)


def only(runs):
    (run,) = runs
    return run


def wait_until(condition):
    until = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


def test_every_event_is_applied_once_in_several_batches(projections, say, seen):
    say(12)
    run = only(projections.run_once())
    assert (Outcome.CURRENT, 12, 12, 12) == (run.outcome, run.events, run.position, run.head)
    assert once(range(1, 13)) == seen()
    assert 0 == only(projections.run_once()).events
    say(1)
    assert 1 == only(projections.run_once()).events
    assert once(range(1, 14)) == seen()


def test_events_of_other_types_are_passed_by(projections, say, seen):
    say(300, "Unwanted")
    say(2)
    say(300, "Unwanted")
    run = only(projections.run_once())
    assert (2, 602) == (run.events, run.position)
    assert once([301, 302]) == seen()


def test_a_writer_idle_in_another_database_stalls_nothing(
    empty_database_url, projections, say, seen
):
    # Readers that wait for the oldest running transaction of the cluster would wait here.
    with psycopg.connect(empty_database_url) as other, psycopg.connect(empty_database_url) as judge:
        own = other.execute("SELECT pg_current_xact_id()::text").fetchone()
        say(3)
        assert Outcome.CURRENT == only(projections.run_once()).outcome
        assert once(range(1, 4)) == seen()
        held_back = "SELECT pg_snapshot_xmin(pg_current_snapshot()) <= %s::xid8"
        assert (True,) == judge.execute(held_back, own).fetchone()


def test_an_empty_log_is_no_problem(projections):
    run = only(projections.run_once())
    assert (Outcome.CURRENT, 0) == (run.outcome, run.position)
    assert ProjectionState.CURRENT == only(projections.status()).state
    assert Outcome.CURRENT == projections.rebuild("tally").outcome


def test_while_one_process_has_the_lease_another_does_nothing(process, tally, say, seen):
    first, second = process(tally), process(tally)
    say(7)
    first._chosen(())
    assert Outcome.ADVANCED == first._runner.advance(tally).outcome
    assert Outcome.BUSY == only(second.run_once()).outcome
    assert once(range(1, 6)) == seen()
    assert Outcome.CURRENT == only(first.run_once()).outcome
    # run_once gave the lease back.
    say(1)
    assert 1 == only(second.run_once()).events
    assert once(range(1, 9)) == seen()


def test_a_lease_that_ran_out_is_taken_over(process, tally, say, clock, seen):
    first, second = process(tally), process(tally)
    say(7)
    first._chosen(())
    first._runner.advance(tally)
    clock.advance(11)
    assert 2 == only(second.run_once()).events
    assert once(range(1, 8)) == seen()


def test_an_idle_owner_keeps_its_lease(process, tally, say, clock):
    first, second = process(tally), process(tally)
    say(1)
    first._chosen(())
    for _ in range(6):
        first._runner.advance(tally)
        clock.advance(4)
    assert Outcome.BUSY == only(second.run_once()).outcome


def test_a_checkpoint_is_saved_only_by_its_owner_from_where_it_was(
    projections, committed_database, clock
):
    projections._chosen(())
    with committed_database.transaction() as work:
        before = work.checkpoints.lock_one("tally")
        lease = {"owner": "me", "lease_until": clock()}
        assert work.checkpoints.save(before, {**lease, "last_position": 3})
        assert not work.checkpoints.save(before, {"last_position": 4})
        work.session.refresh(before)
        assert ("me", 3) == (before.owner, before.last_position)
        assert work.checkpoints.save(before, {"last_position": 4})
        assert not work.checkpoints.save(before, {"last_position": 5})


def test_a_batch_under_way_cannot_be_stolen_however_late_it_is(
    process, committed_database, say, clock, seen, tally
):
    inside, go_on = threading.Event(), threading.Event()

    class Slow(Tally):
        def apply_batch(self, work, events):
            super().apply_batch(work, events)
            inside.set()
            assert go_on.wait(DEADLINE)

    say(3)
    slow = process(Slow())
    thread = threading.Thread(target=slow.run_once)
    thread.start()
    assert inside.wait(DEADLINE)
    clock.advance(3600)
    try:
        assert Outcome.BUSY == only(process(tally).run_once()).outcome
    finally:
        go_on.set()
    thread.join(DEADLINE)
    assert once([1, 2, 3]) == seen()


def test_an_idle_writing_transaction_in_another_database_stalls_nothing(
    projections, say, seen, empty_database_url
):
    with psycopg.connect(empty_database_url) as idle:
        idle.execute("CREATE TABLE written (a int)")
        say(3)
        assert 3 == only(projections.run_once()).events
    assert once([1, 2, 3]) == seen()


@pytest.mark.slow
def test_running_ones_keep_up_with_appends_until_stopped(process, tally, say, seen):
    stop = threading.Event()
    # Two processes: one works, the other waits for its turn.
    running = [
        threading.Thread(target=process(one).run, kwargs={"stop": stop}) for one in (tally, Tally())
    ]
    for thread in running:
        thread.daemon = True
        thread.start()
    writers = [threading.Thread(target=lambda: [say(2) for _ in range(30)]) for _ in range(3)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join(DEADLINE)
    try:
        wait_until(lambda: 180 == len(seen()))
    finally:
        stop.set()
        for thread in running:
            thread.join(DEADLINE)
    assert not any(thread.is_alive() for thread in running)
    assert once(range(1, 181)) == seen()


def test_a_name_nobody_knows_is_an_error(projections):
    for call in (projections.run_once, projections.rebuild):
        with pytest.raises(NotFoundError):
            call("nothing")


def test_two_projections_of_one_name_are_refused(projections):
    with pytest.raises(ConflictError):
        projections.register(Tally())


def test_the_word_of_new_events_ends_the_pause(
    committed_database, clock, bus, tally, seen, monkeypatch
):
    monkeypatch.setattr("rootstream_db.services.event_store.following.FIRST_WAIT", 3600.0)
    monkeypatch.setattr("rootstream_db.services.event_store.following.LONGEST_WAIT", 3600.0)
    monkeypatch.setattr("rootstream_db.services.event_store.wakeup.INTERVAL", 0.0)
    events = EventStore(committed_database, clock=clock, wakeup=Wakeup(bus))
    projections, stop = Projections(committed_database, events, [tally]), threading.Event()
    thread = threading.Thread(target=projections.run, kwargs={"stop": stop})
    thread.start()
    try:
        for number in range(1, 4):
            with committed_database.transaction() as work:
                events.append(work, "Thing", "1", "Counted", {})
            wait_until(lambda number=number: once(range(1, number + 1)) == seen())
    finally:
        stop.set()
        thread.join(DEADLINE)
    assert not thread.is_alive()
