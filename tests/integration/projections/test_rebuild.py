"""Making a read model anew: in place, with progress, whatever comes between."""

from __future__ import annotations

import pytest

from rootstream_db.errors import RootStreamError
from rootstream_db.services.projections import Outcome, ProjectionState
from tests.fixtures.tallies import Tally
from tests.integration.projections.test_running import once, only


def test_a_rebuild_starts_from_nothing_and_reports_progress(projections, say, seen):
    say(12)
    projections.run_once()
    steps = []
    run = projections.rebuild("tally", progress=lambda *step: steps.append(step))
    assert (12, 12) == (run.events, run.position)
    assert [(5, 12), (10, 12), (12, 12)] == steps
    assert once(range(1, 13)) == seen()


class PowerCut(BaseException):
    """Ends everything; not an Exception, so that nothing survives it."""


def test_an_interrupted_rebuild_says_so_and_goes_on_where_it_was(process, tally, say, seen, clock):
    projections = process(tally)
    say(12)
    projections.run_once()

    def cut(position, target):
        raise PowerCut

    with pytest.raises(PowerCut):
        projections.rebuild("tally", progress=cut)
    status = only(projections.status())
    assert (ProjectionState.REBUILDING, 5, 12) == (
        status.state,
        status.position,
        status.rebuild_to,
    )
    assert once(range(1, 6)) == seen()
    # Another process, which need not wait for the lease of the one that died.
    run = process(tally).rebuild("tally")
    assert (7, Outcome.CURRENT) == (run.events, run.outcome)
    assert once(range(1, 13)) == seen()
    assert ProjectionState.CURRENT == only(projections.status()).state


def test_a_run_finishes_what_a_rebuild_began(process, tally, say, seen, clock):
    projections = process(tally)
    say(12)
    projections._chosen(())
    projections._runner.restart(tally)
    clock.advance(60)
    assert 12 == only(process(tally).run_once()).events
    status = only(projections.status())
    assert (ProjectionState.CURRENT, None) == (status.state, status.rebuild_to)


def test_a_rebuild_anew_begins_again(process, tally, say, seen):
    projections = process(tally)
    say(12)
    projections._chosen(())
    projections._runner.restart(tally)
    projections._runner.advance(tally)
    assert 12 == projections.rebuild("tally", anew=True).events
    assert once(range(1, 13)) == seen()


def test_a_rebuild_takes_the_projection_from_the_process_that_runs_it(process, tally, say, seen):
    running, operator = process(tally), process(tally)
    say(7)
    running._chosen(())
    running._runner.advance(tally)
    assert Outcome.CURRENT == operator.rebuild("tally").outcome
    assert Outcome.CURRENT == only(running.run_once()).outcome
    assert once(range(1, 8)) == seen()


def test_a_rebuild_that_another_takes_over_stops(process, tally, say, seen):
    first, second = process(tally), process(tally)
    say(12)
    runs: list[int] = []

    def take_over(position, target):
        if not runs:
            runs.append(position)
            second._runner.restart(tally)

    assert Outcome.BUSY == first.rebuild("tally", progress=take_over).outcome
    assert Outcome.CURRENT == only(second.run_once()).outcome
    assert once(range(1, 13)) == seen()


def test_a_rebuild_stops_at_an_event_that_cannot_be_applied(process, tally, say, seen):
    projections = process(tally)
    say(2)
    say(1, "Poisoned")
    projections.run_once()
    tally.poison = {"Poisoned"}
    run = projections.rebuild("tally")
    assert (Outcome.FAILED, "cannot digest Poisoned") == (run.outcome, str(run.error))
    assert ProjectionState.FAILED == only(projections.status()).state
    tally.poison = set()
    assert Outcome.CURRENT == projections.rebuild("tally").outcome
    assert once([1, 2, 3]) == seen()


def test_a_reset_that_fails_leaves_everything_as_it_was(process, say, seen, tally):
    class Stubborn(Tally):
        def reset(self, work):
            super().reset(work)
            raise RootStreamError("no")

    say(3)
    process(tally).run_once()
    with pytest.raises(RootStreamError):
        process(Stubborn()).rebuild("tally")
    assert once([1, 2, 3]) == seen()
    assert ProjectionState.CURRENT == only(process(tally).status()).state
