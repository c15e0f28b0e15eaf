"""Appending against a model: a list that knows what every unit of work should have done."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from rootstream_db.database import Database
from rootstream_db.errors import ConflictError, VersionConflictError
from rootstream_db.services.event_store import EXISTS, EventStore, PendingEvent
from rootstream_db.testing import settings_for

AGGREGATES = st.sampled_from([("Stream", "1"), ("Stream", "2"), ("User", "1")])
EXPECTED = st.none() | st.integers(EXISTS, 4)
STEPS = st.lists(st.tuples(AGGREGATES, EXPECTED, st.integers(0, 2**70)), min_size=1, max_size=5)
Step = tuple[tuple[str, str], int | None, int]
Unit = list[tuple[uuid.UUID, Step]]


class Appending(RuleBasedStateMachine):
    """Units that commit, fail, roll back a part, or say again what was said before."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.connection = create_engine(url, poolclass=NullPool).connect()
        self.connection.begin()
        self.database = Database.joined_to(
            self.connection, settings_for(url, "redis://nowhere.invalid").database
        )
        self.events = EventStore(self.database)
        self.log: list[tuple[uuid.UUID, tuple[str, str]]] = []
        self.units: list[Unit] = []

    def teardown(self) -> None:
        self.connection.rollback()
        self.connection.close()

    @rule(steps=STEPS)
    def append(self, steps: list[Step]) -> None:
        self._run([(uuid.uuid4(), step) for step in steps])

    @rule(steps=STEPS, inner=STEPS, flush=st.booleans())
    def append_and_lose_a_savepoint(
        self, steps: list[Step], inner: list[Step], flush: bool
    ) -> None:
        unit = [(uuid.uuid4(), step) for step in steps]
        lost: Unit = [(uuid.uuid4(), (aggregate, None, number)) for aggregate, _, number in inner]
        self._run(unit, lost=lost, flush=flush)

    @rule(data=st.data())
    def append_again(self, data: st.DataObject) -> None:
        if self.units:
            unit = data.draw(st.sampled_from(self.units))
            placed = self._append(unit)
            assert [self._place(event_id) for event_id, _ in unit] == [
                (event.position, event.version, True) for event in placed
            ]

    @rule(data=st.data(), steps=STEPS)
    def append_a_part_again(self, data: st.DataObject, steps: list[Step]) -> None:
        if self.units:
            known, (aggregate, _, number) = data.draw(st.sampled_from(self.units))[0]
            mixed: Unit = [(known, (aggregate, None, number))]
            mixed += [(uuid.uuid4(), (step[0], None, step[2])) for step in steps]
            with pytest.raises(ConflictError, match="taken"):
                self._append(mixed)

    @invariant()
    def the_log_is_what_the_model_says(self) -> None:
        stored = list(self.events.read_all(batch=3))
        assert [(event_id, *aggregate) for event_id, aggregate in self.log] == [
            (event.event_id, event.aggregate_type, event.aggregate_id) for event in stored
        ]
        assert [self._place(event.event_id) for event in stored] == [
            (event.position, event.version, True) for event in stored
        ]

    def _run(self, unit: Unit, **how: Any) -> None:
        model = list(self.log)
        wrong = None
        for event_id, (aggregate, expected, _) in unit:
            actual = sum(1 for _, other in model if other == aggregate)
            if expected is not None and not (
                actual > 0 if expected == EXISTS else actual == expected
            ):
                wrong = True
            model.append((event_id, aggregate))
        if wrong:
            with pytest.raises(VersionConflictError):
                self._append(unit, **how)
            return
        placed = self._append(unit, **how)
        self.log = model
        self.units.append(unit)
        assert [self._place(event_id) for event_id, _ in unit] == [
            (event.position, event.version, True) for event in placed
        ]
        assert not any(event.duplicate for event in placed)

    def _append(
        self,
        unit: Unit,
        *,
        lost: Unit | None = None,
        flush: bool = False,
    ) -> list[PendingEvent]:
        with self.database.transaction() as work:
            placed = [self._say(work, *unit[0])]
            if lost is not None:
                with pytest.raises(LookupError), work.savepoint():
                    for event_id, step in lost:
                        self._say(work, event_id, step)
                    if flush:
                        self.events.flush(work)
                    raise LookupError
            placed += [self._say(work, *said) for said in unit[1:]]
        return placed

    def _say(self, work: Any, event_id: uuid.UUID, step: Step) -> PendingEvent:
        (kind, key), expected, number = step
        data = {"number": str(number)}
        return self.events.append(
            work, kind, key, "Said", data, event_id=event_id, expected_version=expected
        )

    def _place(self, event_id: uuid.UUID) -> tuple[int, int, bool]:
        index = next(index for index, (known, _) in enumerate(self.log) if known == event_id)
        aggregate = self.log[index][1]
        version = sum(1 for _, other in self.log[: index + 1] if other == aggregate)
        return index + 1, version, True


def test_any_sequence_of_units_leaves_the_log_the_model_has(worker_database_url):
    class OnThisDatabase(Appending):
        def __init__(self) -> None:
            super().__init__(worker_database_url)

    run_state_machine_as_test(
        OnThisDatabase,
        settings=settings(max_examples=30, stateful_step_count=15, deadline=None),
    )
