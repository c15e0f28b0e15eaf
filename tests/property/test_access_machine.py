"""Access control in two processes against a model that looks at every grant each time."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from rootstream_db.errors import NotFoundError, RoleCycleError
from rootstream_db.rootstream import RootStream
from rootstream_db.settings import AccessSettings
from rootstream_db.testing import settings_for
from tests.factories import make_stream, make_user

ROLES = ["a", "b", "c"]
PERMISSIONS = ["x.one", "x.two", "y.one"]
PATTERNS = [*PERMISSIONS, "x.*", "*"]
USERS = [0, 1]
SCOPES = [None, 0, 1]
OWN = 1
"""The first account owns the second stream."""


@dataclass
class Model:
    """Everything, written down plainly."""

    held: dict[str, set[str]] = field(default_factory=dict)
    parents: dict[str, set[str]] = field(default_factory=dict)
    grants: dict[tuple[int, str, int | None], datetime | None] = field(default_factory=dict)
    closed: set[int] = field(default_factory=set)

    def lineage(self, role):
        found, waiting = set(), [role]
        while waiting:
            one = waiting.pop()
            if one in self.held and one not in found:
                found.add(one)
                waiting += self.parents[one]
        return found

    def allows(self, user, permission, scope, now):
        if user in self.closed:
            return False
        roles = {
            role
            for (who, role, where), ends in self.grants.items()
            if who == user and where in {None, scope} and (ends is None or now < ends)
        }
        if (user, scope) == (0, OWN):
            roles.add("c")
        held = {one for role in roles for each in self.lineage(role) for one in self.held[each]}
        return not held.isdisjoint({permission, permission.split(".")[0] + ".*", "*"})


class AccessMachine(RuleBasedStateMachine):
    """Two data layers on the same servers; ``first`` and ``second`` share nothing in memory."""

    def __init__(self, first, second, clock):
        super().__init__()
        self.first, self.second, self.clock = first, second, clock
        self.model = Model()
        with first.transaction() as work:
            self.users = [make_user(work) for _ in USERS]
            self.streams = [make_stream(work), make_stream(work, self.users[0])]
        for role in ROLES:
            self.create(role)

    def create(self, role):
        with self.first.transaction() as work:
            if work.roles.get_by_name(role) is not None:
                self.first.access.delete_role(work, role)
            self.first.access.create_role(work, role)
        self.model.held[role], self.model.parents[role] = set(), set()

    def stream(self, scope):
        return None if scope is None else self.streams[scope]

    @rule(
        user=st.sampled_from(USERS),
        role=st.sampled_from(ROLES),
        scope=st.sampled_from(SCOPES),
        seconds=st.none() | st.integers(1, 100),
    )
    def grant(self, user, role, scope, seconds):
        with self.second.transaction() as work:
            ends = None if seconds is None else work.now + timedelta(seconds=seconds)
            self.second.access.grant(
                work, self.users[user], role, stream=self.stream(scope), expires_at=ends
            )
        self.model.grants[user, role, scope] = ends

    @rule(
        user=st.sampled_from(USERS),
        role=st.sampled_from(ROLES),
        scope=st.sampled_from(SCOPES),
    )
    def revoke(self, user, role, scope):
        known = self.model.grants.pop((user, role, scope), "none")
        try:
            with self.first.transaction() as work:
                stream = self.stream(scope)
                self.first.access.revoke_grant(work, self.users[user], role, stream=stream)
        except NotFoundError:
            assert known == "none"
        else:
            assert known != "none"

    @rule(role=st.sampled_from(ROLES), patterns=st.sets(st.sampled_from(PATTERNS)))
    def set_permissions(self, role, patterns):
        with self.second.transaction() as work:
            self.second.access.set_permissions(work, role, patterns)
        self.model.held[role] = patterns

    @rule(role=st.sampled_from(ROLES), parent=st.sampled_from(ROLES))
    def add_parent(self, role, parent):
        closes = role in self.model.lineage(parent)
        try:
            with self.first.transaction() as work:
                self.first.access.add_parent(work, role, parent)
        except RoleCycleError:
            assert closes
        else:
            assert not closes
            self.model.parents[role].add(parent)

    @rule(role=st.sampled_from(ROLES), parent=st.sampled_from(ROLES))
    def remove_parent(self, role, parent):
        with self.second.transaction() as work:
            self.second.access.remove_parent(work, role, parent)
        self.model.parents[role].discard(parent)

    @rule(role=st.sampled_from(ROLES))
    def make_anew(self, role):
        self.create(role)
        for parents in self.model.parents.values():
            parents.discard(role)
        for key in [key for key in self.model.grants if key[1] == role]:
            del self.model.grants[key]

    @rule(user=st.sampled_from(USERS))
    def close_or_open(self, user):
        with self.first.transaction() as work:
            if user in self.model.closed:
                self.first.accounts.reactivate(work, self.users[user])
            else:
                self.first.accounts.deactivate(work, self.users[user])
        self.model.closed ^= {user}

    @rule(seconds=st.sampled_from([1, 30, 61]))
    def wait(self, seconds):
        self.clock.advance(seconds)

    @rule()
    def lose_the_cache(self):
        self.first.cache.client.flushdb()

    @rule(user=st.sampled_from(USERS))
    def die_before_a_commit(self, user):
        with pytest.raises(RuntimeError), self.first.transaction() as work:
            self.first.access.grant(work, self.users[user], "a")
            self.first.access.set_permissions(work, "b", ["*"])
            work.prepare_commit()
            raise RuntimeError

    @invariant()
    def both_processes_say_what_the_model_says(self):
        now = self.clock()
        for user, account in enumerate(self.users):
            for scope in SCOPES:
                stream_id = None if scope is None else self.streams[scope].id
                expected = [self.model.allows(user, one, scope, now) for one in PERMISSIONS]
                for process in (self.first, self.second):
                    allowed = [
                        process.access.can(account.id, one, stream_id=stream_id)
                        for one in PERMISSIONS
                    ]
                    assert expected == allowed


@pytest.mark.slow
def test_two_processes_agree_with_the_model(clean_database_url, redis_url, clock):
    chosen = settings_for(clean_database_url, redis_url).model_copy(
        update={"access": AccessSettings(everyone_role="", owner_role="c")}
    )
    with RootStream(chosen, clock=clock) as first, RootStream(chosen, clock=clock) as second:

        class Machine(AccessMachine):
            def __init__(self):
                super().__init__(first, second, clock)

        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=8,
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
