"""The whole event store on a real database against a model: a list, and a few snapshots."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from rootstream_db.database import Database
from rootstream_db.errors import (
    ConflictError,
    UnknownEventVersionError,
    ValidationError,
    VersionConflictError,
)
from rootstream_db.services.event_store import (
    Aggregate,
    EventStore,
    PendingEvent,
    RecordedEvent,
    SnapshotPolicy,
)
from rootstream_db.testing import settings_for
from rootstream_db.unit_of_work import UnitOfWork
from tests.fixtures.event_model import (
    EVERY,
    REGISTERED,
    TODAY,
    Call,
    Key,
    Line,
    Model,
    Numbers,
    Saying,
)

KEYS = st.sampled_from([(REGISTERED, "1"), (REGISTERED, "2"), ("User", "1")])
KINDS = st.sampled_from([("Said", 1), ("Said", 2), ("Said", TODAY), ("Heard", 1), ("Heard", 7)])
NUMBERS = st.integers(-(2**63), 2**63 - 1)
WORDS = st.sampled_from(["any", "right", "exists", "new", "behind", "ahead"])
FAIR_WORDS = st.sampled_from(["any", "right"])
PLACES = st.integers(0, 12)
BATCHES = st.integers(1, 4)
SCHEMAS = st.sampled_from([1, 1, 2])


@st.composite
def calls(draw: st.DrawFn, *wordings: st.SearchStrategy[str]) -> list[Call]:
    words = draw(st.sampled_from(wordings))

    def call() -> Call:
        key = draw(KEYS)
        said = draw(st.lists(st.tuples(KINDS, NUMBERS), min_size=1, max_size=4))
        return Call(draw(words), [Saying(key, *kind, number) for kind, number in said])

    return [call() for _ in range(draw(st.integers(1, 2)))]


MOSTLY_FAIR = calls(FAIR_WORDS, FAIR_WORDS, FAIR_WORDS, WORDS)
ANY_VERSION = calls(st.just("any"))


def heard(state: dict[str, Any], event: RecordedEvent) -> dict[str, Any]:
    """The rules of every aggregate: remember the numbers in their order."""
    said = event.event_type == "Said"
    number = event.data["values"][0] if said else event.data["number"]
    return {"numbers": [*state["numbers"], number]}


def as_read(event: RecordedEvent) -> tuple[object, ...]:
    key = (event.aggregate_type, event.aggregate_id)
    return event.event_id, key, event.event_type, event.schema_version, event.data


def place(event: RecordedEvent | PendingEvent) -> tuple[int | None, int | None, datetime | None]:
    return event.position, event.version, event.recorded_at


class Store(RuleBasedStateMachine):
    """Writers that succeed, fail and say things again; readers of now and of then."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.connection = create_engine(url, poolclass=NullPool).connect()
        self.connection.begin()
        redis_url = "redis://nowhere.invalid"
        self.database = Database.joined_to(self.connection, settings_for(url, redis_url).database)
        self.events = EventStore(self.database)
        self.events.register(
            REGISTERED,
            Aggregate(apply=heard, initial={"numbers": []}, policy=SnapshotPolicy(every=EVERY)),
        )
        self.events.upcasters.upcasts("Said", from_version=2)(lambda d: {"values": [d["value"]]})
        self.events.upcasters.upcasts("Said", from_version=1)(lambda d: {"value": d["number"]})
        self.model = Model()

    def teardown(self) -> None:
        """Whatever happened, the log holds, and every snapshot that was due could be taken."""
        try:
            assert self.events.verify().finding is None
            assert 0 == self.database.after_commit_failures
        finally:
            self.connection.rollback()
            self.connection.close()

    @rule(unit=MOSTLY_FAIR)
    def append(self, unit: list[Call]) -> None:
        self._commit(unit, [], [])

    @rule(before=MOSTLY_FAIR, inner=MOSTLY_FAIR, after=MOSTLY_FAIR, flush=st.booleans())
    def append_around_a_savepoint(
        self, before: list[Call], inner: list[Call], after: list[Call], *, flush: bool
    ) -> None:
        self._commit(before, inner, after, flush=flush)

    @rule(before=MOSTLY_FAIR, inner=ANY_VERSION, after=MOSTLY_FAIR, flush=st.booleans())
    def append_around_a_lost_savepoint(
        self, before: list[Call], inner: list[Call], after: list[Call], *, flush: bool
    ) -> None:
        self._commit(before, inner, after, flush=flush, lost=True)

    @rule(unit=ANY_VERSION, flush=st.booleans(), snapshot=st.booleans())
    def append_in_vain(self, unit: list[Call], *, flush: bool, snapshot: bool) -> None:
        sayings = [saying for call in unit for saying in call.sayings]
        with pytest.raises(LookupError), self.database.transaction() as work:
            for call in unit:
                self._say(work, call, None)
            if flush:
                self.events.flush(work)
                now = [*(line.saying for line in self.model.log), *sayings]
                found = list(self.events.read_all(work=work, batch=5))
                assert [saying.as_read for saying in now] == [as_read(event) for event in found]
            if snapshot:
                state = {"numbers": [0]}
                self.events.create_snapshot(*unit[0].key, state, 1, work=work)
            raise LookupError

    @precondition(lambda self: self.model.log)
    @rule(data=st.data(), word=WORDS)
    def append_again(self, data: st.DataObject, word: str) -> None:
        """In any order and with any expectation: the events are where they are."""
        known = data.draw(st.lists(st.sampled_from(self.model.log), max_size=4, unique=True))
        with self.database.transaction() as work:
            placed = [
                said
                for line in known
                for said in self._say(work, Call(word, [line.saying]), line.version)
            ]
        assert [(*line.place, True) for line in known] == [
            (*place(event), event.duplicate) for event in placed
        ]

    @precondition(lambda self: self.model.log)
    @rule(
        data=st.data(),
        change=st.sampled_from(["number", "event_type", "schema_version", "key", "one more"]),
    )
    def append_something_else_under_a_taken_id(self, data: st.DataObject, change: str) -> None:
        known = data.draw(st.sampled_from(self.model.log)).saying
        others: dict[str, Any] = {
            "key": (known.key[0], "other"),
            "event_type": "Shouted",
            "schema_version": known.schema_version % TODAY + 1,
            "number": known.number // 2 + 1 if known.number not in {1, 2} else 0,
        }
        wrong = replace(known, **{name: others[name] for name in others if name == change})
        sayings = [wrong, Saying(known.key, "Said", 1, 1)] if change == "one more" else [wrong]
        with (
            pytest.raises(ConflictError, match="taken"),
            self.database.transaction() as work,
        ):
            self._say(work, Call("any", sayings), None)

    @rule(key=KEYS)
    def read_an_event_of_a_newer_release(self, key: Key) -> None:
        with pytest.raises(UnknownEventVersionError), self.database.transaction() as work:
            self._say(work, Call("any", [Saying(key, "Said", TODAY + 1, 0)]), None)
            self.events.flush(work)
            list(self.events.read(*key, work=work))

    @precondition(lambda self: self.model.log)
    @rule(data=st.data(), schema=SCHEMAS, numbers=st.lists(NUMBERS, max_size=2))
    def take_a_snapshot(self, data: st.DataObject, schema: int, numbers: Numbers) -> None:
        """Of anything but what the events add up to, so that its use shows."""
        key = data.draw(st.sampled_from(self.model.log)).saying.key
        version = data.draw(st.integers(0, self.model.version(key) + 1))
        state = {"numbers": numbers}
        if 0 < version <= self.model.version(key):
            self.events.create_snapshot(*key, state, version, state_schema=schema)
            self.model.keep(key, version, schema, numbers)
            return
        with pytest.raises(ValidationError, match="version"):
            self.events.create_snapshot(*key, state, version, state_schema=schema)

    @rule(key=KEYS, schema=SCHEMAS)
    def look_at_the_latest_snapshot(self, key: Key, schema: int) -> None:
        found = self.events.get_latest_snapshot(*key, state_schema=schema)
        numbers, version = self.model.latest(key, schema, len(self.model.log))
        assert (version > 0) == (found is not None)
        if found is not None:
            assert (version, {"numbers": numbers}) == (found.version, found.state)

    @precondition(lambda self: self.model.log)
    @rule(data=st.data(), schema=SCHEMAS)
    def replay_to_every_version(self, data: st.DataObject, schema: int) -> None:
        key = data.draw(st.sampled_from(self.model.log)).saying.key
        version = self.model.version(key)
        self._replay(key, version, schema)
        for last in range(version + 2):
            self._replay(key, min(last, version), schema, to_version=last)

    @precondition(lambda self: self.model.log)
    @rule(data=st.data(), schema=SCHEMAS, to_version=st.none() | PLACES, early=st.integers(0, 1))
    def replay_to_a_moment(
        self, data: st.DataObject, schema: int, to_version: int | None, early: int
    ) -> None:
        line = data.draw(st.sampled_from(self.model.log))
        key, moment = line.saying.key, line.recorded_at - timedelta(microseconds=early)
        then = sum(1 for other in self.model.of(key) if other.recorded_at <= moment)
        last = then if to_version is None else min(then, to_version)
        self._replay(key, last, schema, to_version=to_version, to_time=moment)

    @rule(key=KEYS, after=PLACES, to=st.none() | PLACES, batch=BATCHES)
    def read_an_aggregate(self, key: Key, after: int, to: int | None, batch: int) -> None:
        found = self.events.read(*key, after_version=after, to_version=to, batch=batch)
        assert self._seen(self.model.of(key)[after:to] if to is None or to > after else []) == [
            (*as_read(event), *place(event)) for event in found
        ]

    @rule(
        after=PLACES,
        to=st.none() | PLACES,
        types=st.none() | st.sets(st.sampled_from(["Said", "Heard"])),
        batch=BATCHES,
    )
    def read_everything(
        self, after: int, to: int | None, types: set[str] | None, batch: int
    ) -> None:
        wanted = [
            line
            for line in self.model.log
            if line.position > after and (types is None or line.saying.event_type in types)
        ]
        options: dict[str, Any] = {"after_position": after, "types": types, "batch": batch}
        found = self.events.read_all(to_position=to, **options)
        assert self._seen([line for line in wanted if to is None or line.position <= to]) == [
            (*as_read(event), *place(event)) for event in found
        ]
        if after <= len(self.model.log):
            followed = self.events.follow(idle=0, **options)
            assert self._seen(wanted) == [(*as_read(event), *place(event)) for event in followed]

    @invariant()
    def the_log_is_dense_and_what_the_model_says(self) -> None:
        stored = list(self.events.read_all())
        assert list(range(1, len(self.model.log) + 1)) == [event.position for event in stored]
        assert self._seen(self.model.log) == [(*as_read(event), *place(event)) for event in stored]
        times = [event.recorded_at for event in stored]
        assert sorted(times) == times

    def _replay(self, key: Key, last: int, schema: int, **when: Any) -> None:
        numbers, version = self.model.replay(key, last, schema)
        expected = ({"numbers": numbers}, version)
        initial: dict[str, Any] = {"numbers": []}
        assert expected == self.events.replay(*key, heard, initial, state_schema=schema, **when)
        if schema == 1 and key[0] == REGISTERED:
            assert expected == self.events.load(*key, **when)

    @staticmethod
    def _seen(lines: list[Line]) -> list[tuple[object, ...]]:
        return [(*line.saying.as_read, *line.place) for line in lines]

    def _commit(
        self,
        before: list[Call],
        inner: list[Call],
        after: list[Call],
        *,
        flush: bool = False,
        lost: bool = False,
    ) -> None:
        said = [*before, *([] if lost else inner), *after]
        at: dict[Key, int] = {}
        wrong = set()
        expectations = []
        for call in said:
            version = at.setdefault(call.key, self.model.version(call.key))
            expectations.append(call.expected(version))
            if not call.holds(version):
                shown = "exists" if call.word == "exists" else expectations[-1]
                wrong.add(("/".join(call.key), shown, version))
            at[call.key] = version + len(call.sayings)
        if lost:
            expectations[len(before) : len(before)] = [None] * len(inner)
        parts = before, inner, after
        if wrong:
            with pytest.raises(VersionConflictError) as raised:
                self._append(parts, expectations, flush=flush, lost=lost)
            error = raised.value
            assert (error.aggregate, error.expected, error.actual) in wrong
            return
        placed = self._append(parts, expectations, flush=flush, lost=lost)
        assert not any(event.duplicate for event in placed)
        self.model.append([saying for call in said for saying in call.sayings], placed)
        assert [line.place for line in self.model.log[-len(placed) :]] == [*map(place, placed)]

    def _append(
        self,
        parts: tuple[list[Call], list[Call], list[Call]],
        expectations: list[int | None],
        *,
        flush: bool,
        lost: bool,
    ) -> list[PendingEvent]:
        before, inner, after = parts
        expected = iter(expectations)
        with self.database.transaction() as work:
            placed = self._say_all(work, before, expected)
            if inner:
                kept: list[PendingEvent] = []
                with suppress(LookupError), work.savepoint():
                    said = self._say_all(work, inner, expected)
                    if flush:
                        self.events.flush(work)
                    if lost:
                        raise LookupError
                    kept = said
                placed += kept
            placed += self._say_all(work, after, expected)
        return placed

    def _say_all(self, work: UnitOfWork, said: list[Call], expected: Any) -> list[PendingEvent]:
        return [event for call in said for event in self._say(work, call, next(expected))]

    def _say(self, work: UnitOfWork, call: Call, expected: int | None) -> list[PendingEvent]:
        new = [saying.event for saying in call.sayings]
        if len(new) > 1:
            return self.events.append_many(work, *call.key, new, expected_version=expected)
        (one,) = new
        event = self.events.append(
            work,
            *call.key,
            one.event_type,
            one.data,
            schema_version=one.schema_version,
            event_id=one.event_id,
            expected_version=expected,
        )
        return [event]


def test_the_store_does_what_a_list_does(worker_database_url):
    class OnThisDatabase(Store):
        def __init__(self) -> None:
            super().__init__(worker_database_url)

    run_state_machine_as_test(
        OnThisDatabase,
        settings=settings(max_examples=12, stateful_step_count=20, deadline=None),
    )
