"""The stream manager on a real database against a model small enough to be obviously right."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from rootstream_db.errors import StaleLeaseError, StreamAlreadyLiveError
from rootstream_db.models import EndReason
from rootstream_db.services.event_store import EventStore
from rootstream_db.services.streams import LiveState, StreamManager
from rootstream_db.settings import StreamSettings
from tests.factories import MINT, make_user

TTL = timedelta(seconds=15)
GRACE = timedelta(seconds=30)


@dataclass
class Broadcast:
    """What the model knows of one session."""

    started_at: datetime
    alive_at: datetime
    closed_connections: int = 0
    bytes_in: int = 0
    reconnects: int = 0

    @property
    def total(self):
        return self.closed_connections + self.bytes_in


@dataclass
class Model:
    """A stream with one possible holder; nothing in it happens by itself."""

    epoch: int = 0
    owner: str | None = None
    expires_at: datetime | None = None
    over_at: datetime | None = None
    on_air: Broadcast | None = None
    ended: list[Broadcast] = field(default_factory=list)

    def settle(self, now):
        """End what time has ended."""
        if self.over_at is not None and now >= self.over_at:
            self.end()

    def end(self):
        self.ended.append(self.broadcast)
        self.on_air = self.owner = self.expires_at = self.over_at = None

    def renew(self, now):
        self.expires_at, self.over_at = now + TTL, now + TTL + GRACE
        self.broadcast.alive_at = now

    @property
    def broadcast(self) -> Broadcast:
        """The broadcast on the air."""
        assert self.on_air is not None
        return self.on_air

    def state(self, now):
        if self.on_air is None:
            return LiveState.OFFLINE
        if self.expires_at is not None and now < self.expires_at:
            return LiveState.LIVE
        return LiveState.RECONNECTING


class LeaseMachine(RuleBasedStateMachine):
    """Publishers, a reaper that comes when it likes, and time."""

    leases = Bundle("leases")

    def __init__(self, database, streams, clock):
        super().__init__()
        self.database, self.streams, self.clock = database, streams, clock
        with database.transaction() as work:
            self.stream, self.key = streams.create(work, owner=make_user(work), name="s")
        self.model = Model()

    @property
    def now(self):
        return self.clock()

    @rule(seconds=st.sampled_from([0.5, 1, 14, 15, 16, 29, 30, 44, 45, 46, 1000]))
    def time_passes(self, seconds):
        self.clock.advance(seconds)

    @rule()
    def the_reaper_comes_by(self):
        self.streams.reap()

    @rule(target=leases, connection=st.sampled_from("abc"))
    def somebody_starts(self, connection):
        model, now = self.model, self.now
        model.settle(now)
        state = model.state(now)
        owner = f"node/{connection}"
        if state is LiveState.LIVE and model.owner != owner:
            with pytest.raises(StreamAlreadyLiveError):
                self.streams.start(self.key, node="node", connection_id=connection)
            return None
        lease = self.streams.start(self.key, node="node", connection_id=connection)
        if state is not LiveState.LIVE:
            model.epoch += 1
            model.owner = owner
            if state is LiveState.OFFLINE:
                model.on_air = Broadcast(now, now)
            else:
                model.broadcast.closed_connections += model.broadcast.bytes_in
                model.broadcast.bytes_in = 0
                model.broadcast.reconnects += 1
            model.renew(now)
        assert (model.epoch, model.expires_at) == (lease.epoch, lease.expires_at)
        assert lease.resumed is (state is LiveState.RECONNECTING)
        return lease

    @rule(lease=leases, sent=st.integers(0, 1000))
    def a_publisher_heartbeats(self, lease, sent):
        model = self.model
        if lease is None:
            return
        model.settle(self.now)
        if lease.epoch != model.epoch or model.expires_at is None:
            with pytest.raises(StaleLeaseError):
                self.streams.heartbeat(lease, bytes_in=sent)
            return
        renewed = self.streams.heartbeat(lease, bytes_in=sent)
        model.renew(self.now)
        model.broadcast.bytes_in = max(model.broadcast.bytes_in, sent)
        assert model.expires_at == renewed.expires_at

    @rule(lease=leases, sent=st.integers(0, 1000))
    def a_publisher_disconnects(self, lease, sent):
        model = self.model
        if lease is None:
            return
        model.settle(self.now)
        if lease.epoch != model.epoch:
            with pytest.raises(StaleLeaseError):
                self.streams.disconnect(lease, bytes_in=sent)
            return
        self.streams.disconnect(lease, bytes_in=sent)
        if model.expires_at is not None:
            model.broadcast.alive_at = self.now
            model.broadcast.bytes_in = max(model.broadcast.bytes_in, sent)
            model.owner = model.expires_at = None
            model.over_at = self.now + GRACE

    @rule(lease=leases, sent=st.integers(0, 1000))
    def a_publisher_stops(self, lease, sent):
        model = self.model
        if lease is None:
            return
        model.settle(self.now)
        if lease.epoch != model.epoch:
            with pytest.raises(StaleLeaseError):
                self.streams.stop(lease, bytes_in=sent)
            return
        self.streams.stop(lease, bytes_in=sent)
        if model.on_air is not None:
            if model.expires_at is not None:
                model.broadcast.alive_at = self.now
                model.broadcast.bytes_in = max(model.broadcast.bytes_in, sent)
            model.end()

    @invariant()
    def viewers_see_what_the_model_says(self):
        self.model.settle(self.now)
        assert self.model.state(self.now) is self.streams.live_status(self.stream.id).state

    @invariant()
    def sessions_are_what_the_model_says(self):
        with self.database.read() as work:
            stored = work.stream_sessions.list_by_stream(self.stream.id)[::-1]
            live = work.stream_live.get_one(self.stream.id)
            work.session.expunge_all()
        known = [*self.model.ended, *filter(None, [self.model.on_air])]
        assert [b.started_at for b in known] == [row.started_at for row in stored]
        assert [b.reconnects for b in known] == [row.reconnects for row in stored]
        assert self.model.epoch == live.lease_epoch
        assert 1 >= sum(row.ended_at is None for row in stored)
        for broadcast, row in zip(known, stored, strict=True):
            if row.ended_at is None:
                # Not closed yet, though perhaps over: the rest is in the live row.
                assert broadcast.total == row.bytes_in + live.bytes_in
            else:
                assert (broadcast.alive_at, broadcast.total) == (row.ended_at, row.bytes_in)
                assert row.end_reason in EndReason

    def teardown(self):
        """Whatever happened, nothing stays live for ever."""
        self.clock.advance(TTL + GRACE)
        self.streams.reap()
        with self.database.read() as work:
            assert work.stream_sessions.get_open(self.stream.id) is None
            assert not work.stream_live.get_one(self.stream.id).is_live


def test_leases_do_what_the_model_does(database, cache, bus, clock):
    streams = StreamManager(
        database,
        EventStore(database, clock=clock),
        tokens=MINT,
        cache=cache,
        bus=bus,
        settings=StreamSettings(lease_ttl=TTL, reconnect_grace=GRACE),
        clock=clock,
    )

    class Machine(LeaseMachine):
        def __init__(self):
            super().__init__(database, streams, clock)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
