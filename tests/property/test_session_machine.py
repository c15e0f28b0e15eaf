"""Two session managers, as two processes have them, against a model that is obviously right."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, rule, run_state_machine_as_test

from rootstream_db.errors import (
    InvalidCredentialsError,
    InvalidTokenError,
    SessionExpiredError,
    SessionRevokedError,
)
from rootstream_db.services.event_store import EventStore
from rootstream_db.services.sessions import SessionManager
from rootstream_db.settings import CacheSettings, SessionSettings
from tests.factories import MINT, make_user

IDLE, ABSOLUTE = timedelta(hours=1), timedelta(hours=5)
TOUCH, GRACE = timedelta(minutes=1), timedelta(seconds=10)
LIMIT = 3
REFUSALS = (SessionRevokedError, SessionExpiredError, InvalidTokenError)


@dataclass(eq=False)
class Known:
    """What the model knows of one session."""

    token: str
    number: int
    family: int
    seen_at: datetime
    idle_until: datetime
    until: datetime
    is_over: bool = False
    replaced_at: datetime | None = None

    def holds(self, now):
        return not self.is_over and now < self.idle_until and now < self.until


class SessionMachine(RuleBasedStateMachine):
    """One user, two processes, an operator, a Redis that is emptied now and then, and time."""

    sessions = Bundle("sessions")

    def __init__(self, database, managers, redis, clock):
        super().__init__()
        self.database, self.managers, self.redis, self.clock = database, managers, redis, clock
        self.known = []
        redis.flushdb()
        with database.transaction() as work:
            self.user = make_user(work)

    def entered(self, issued, family, until):
        now = self.clock()
        known = Known(
            token=issued.token,
            number=issued.session.id,
            family=family or issued.session.id,
            seen_at=now,
            idle_until=min(now + IDLE, until),
            until=until,
        )
        self.known.append(known)
        return known

    @rule(target=sessions, by=st.integers(0, 1))
    def log_in(self, by):
        now = self.clock()
        holding = sorted(
            (one for one in self.known if one.holds(now)), key=lambda one: (one.seen_at, one.number)
        )
        for gone in holding[: max(0, len(holding) - LIMIT + 1)]:
            gone.is_over = True
        with self.database.transaction() as work:
            user = work.users.get_one(self.user.id)
            issued = self.managers[by].create(work, user)
        return self.entered(issued, None, now + ABSOLUTE)

    @rule(by=st.integers(0, 1))
    def log_in_too_late(self, by):
        try:
            with self.database.transaction() as work:
                user = work.users.get_one(self.user.id)
                work.session.expunge(user)
                self.managers[by].revoke_all_for_user(work, user.id)
                self.managers[by].create(work, user)
        except InvalidCredentialsError:
            # And with it the revocation was rolled back.
            return
        raise AssertionError("a login outlived the end of all sessions")

    @rule(session=sessions, by=st.integers(0, 1), refresh=st.booleans())
    def use(self, session, by, refresh):
        use = self.managers[by].refresh if refresh else self.managers[by].validate
        now = self.clock()
        if not session.holds(now):
            self.refused(session, use)
            return
        assert session.number == use(session.token).session_id
        if now - session.seen_at >= TOUCH:
            session.seen_at, session.idle_until = now, min(now + IDLE, session.until)

    @rule(target=sessions, session=sessions, by=st.integers(0, 1))
    def rotate(self, session, by):
        now = self.clock()
        if not session.holds(now):
            self.refused(session, self.managers[by].rotate)
            return session
        issued = self.managers[by].rotate(session.token)
        session.is_over, session.replaced_at = True, now
        return self.entered(issued, session.family, session.until)

    @rule(session=sessions, by=st.integers(0, 1))
    def revoke(self, session, by):
        now = self.clock()
        result = self.managers[by].revoke(session.token)
        assert result.immediate
        family = [one for one in self.known if one.family == session.family]
        assert result.revoked >= sum(one.holds(now) for one in family)
        for one in family:
            one.is_over = True

    @rule(by=st.integers(0, 1), kept=st.one_of(st.none(), sessions))
    def revoke_all(self, by, kept):
        number = kept.number if kept is not None else None
        with self.database.transaction() as work:
            self.managers[by].revoke_all_for_user(work, self.user.id, except_session=number)
        for one in self.known:
            if one is not kept:
                one.is_over = True

    @rule(by=st.integers(0, 1))
    def end_everybody(self, by):
        self.managers[by].invalidate_all("a restore")
        # A moment passes, or the next generation would be the same.
        self.clock.advance(0.001)
        for one in self.known:
            one.is_over = True

    @rule(seconds=st.sampled_from([1, 9, 11, 59, 61, 600, 3500, 3601, 5 * 3600]))
    def wait(self, seconds):
        self.clock.advance(seconds)

    @rule()
    def empty_redis(self):
        self.redis.flushdb()

    @rule(by=st.integers(0, 1))
    def clean_up(self, by):
        now = self.clock()
        self.managers[by].delete_expired()
        for one in self.known:
            if one.until < now:
                # A replaced token that comes back now is unknown, and betrays nobody.
                one.replaced_at = None

    @rule()
    def list_them(self):
        now = self.clock()
        with self.database.transaction() as work:
            listed = self.managers[0].list_for_user(work, self.user.id)
        assert {one.number for one in self.known if one.holds(now)} == {row.id for row in listed}

    def refused(self, session, use):
        try:
            use(session.token)
        except REFUSALS:
            pass
        else:
            raise AssertionError("a dead session was let in")
        if session.replaced_at is not None and self.clock() - session.replaced_at > GRACE:
            for one in self.known:
                if one.family == session.family:
                    one.is_over = True


@pytest.mark.slow
def test_sessions_do_what_the_model_does(database, cache, bus, redis_settings, clock):
    managers = [
        SessionManager(
            database,
            EventStore(database, clock=clock),
            MINT,
            bus=bus,
            redis=redis_settings,
            ttls=CacheSettings(),
            settings=SessionSettings(
                absolute_ttl=ABSOLUTE,
                idle_ttl=IDLE,
                touch_interval=TOUCH,
                rotation_grace=GRACE,
                max_per_user=LIMIT,
            ),
            clock=clock,
        )
        for _ in range(2)
    ]

    class Machine(SessionMachine):
        def __init__(self):
            super().__init__(database, managers, cache.client, clock)

    try:
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=40,
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        for manager in managers:
            manager.close()
