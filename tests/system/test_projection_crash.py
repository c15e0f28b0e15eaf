"""Projections through SIGKILL: whenever the process dies, every event counts exactly once."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from rootstream_db.services.event_store import EventStore, NewEvent
from rootstream_db.services.projections import Projections
from tests.fixtures.doom import fork_doomed, was_killed
from tests.fixtures.tallies import Tally

CRASHES = 25

pytestmark = [
    pytest.mark.slow,
    # Children only project and die; they never touch what the parent's threads may hold.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


@pytest.fixture
def world(committed_database, clock):
    with committed_database.transaction() as work:
        Tally.create(work)
    yield World(committed_database, clock)
    with committed_database.transaction() as work:
        Tally.drop(work)


class World:
    """A log that grows, and processes that project it and die."""

    def __init__(self, database, clock):
        self.database = database
        self.clock = clock
        self.events = EventStore(database, clock=clock)
        self.appended = 0

    def append(self, number):
        many = [NewEvent(event_type="Counted", data={}) for _ in range(number)]
        with self.database.transaction() as work:
            self.events.append_many(work, "Thing", "1", many)
        self.appended += number

    def project(self):
        """Do what one process would: it has its own name in the lease."""
        projections = Projections(
            self.database, self.events, [Tally()], batch=4, lease=timedelta(seconds=10)
        )
        projections.run_once()

    def rebuild(self):
        projections = Projections(self.database, self.events, [Tally()], batch=4)
        projections.rebuild("tally")

    def counted(self):
        with self.database.read() as work:
            return Tally().seen(work)

    def all_once(self):
        return dict.fromkeys(range(1, self.appended + 1), 1)


@pytest.mark.parametrize("job", ["project", "rebuild"])
def test_every_single_step_of_a_projection_may_be_its_last(world, job):
    step = 1
    while True:
        world.append(3)
        # What the last one left behind has run out.
        world.clock.advance(60)
        if not was_killed(fork_doomed(getattr(world, job), at=step)):
            break
        counted = world.counted()
        assert set(counted.values()) <= {1}
        assert list(range(1, len(counted) + 1)) == list(counted)
        step += 1
    assert 20 < step
    world.clock.advance(60)
    world.project()
    assert world.all_once() == world.counted()


def test_processes_that_die_at_random_beside_each_other_apply_every_event_once(world):
    chance = random.Random(1)
    crashes = 0
    while crashes < CRASHES:
        world.append(chance.randrange(1, 12))
        world.clock.advance(chance.choice((1, 60)))
        children = [
            fork_doomed(world.project, at=chance.choice((None, chance.randrange(1, 60))))
            for _ in range(2)
        ]
        world.append(2)
        crashes += sum(was_killed(child) for child in children)
    world.clock.advance(60)
    world.project()
    assert world.all_once() == world.counted()
