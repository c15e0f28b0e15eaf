"""Laws of permissions, and their equivalence with a model that does everything the slow way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise, product

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootstream_db.errors import RoleCycleError
from rootstream_db.security.permissions import (
    NOTHING,
    Grant,
    PermissionSet,
    RoleDefinition,
    RoleGraph,
    effective_permissions,
)

# Nothing here waits for anything: a slow machine is no finding.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
WORDS = "ab"
# Every name of two and three words of a small vocabulary, and every pattern over it.
NAMES = [".".join(words) for length in (2, 3) for words in product(WORDS, repeat=length)]
PATTERNS = ["*", "a.*", "b.*", *(f"{name}.*" for name in NAMES if 3 == len(name)), *NAMES]
ROLES = range(1, 7)
STREAMS = [None, 1, 2]

pattern_lists = st.lists(st.sampled_from(PATTERNS), max_size=4)
permission_sets = pattern_lists.map(PermissionSet)
moments = st.integers(-5, 5).map(lambda seconds: NOON + timedelta(seconds=seconds))
grants = st.builds(
    Grant,
    st.sampled_from([*ROLES, 99]),
    stream_id=st.sampled_from(STREAMS),
    expires_at=st.none() | moments,
)
grant_lists = st.lists(grants, max_size=6)


@st.composite
def role_lists(draw, *, with_cycles=False):
    """Roles that inherit from roles with a lower number, or from any."""
    return [
        RoleDefinition(
            id=number,
            name=f"role{number}",
            permissions=draw(permission_sets),
            parents=draw(
                st.frozensets(
                    st.sampled_from(list(ROLES) if with_cycles else list(range(number))),
                    max_size=3,
                )
                if number > 1
                else st.just(frozenset())
            ),
        )
        for number in ROLES
    ]


def naive_match(pattern, name):
    """Whether a pattern covers a name, word by word."""
    if pattern == "*":
        return True
    if pattern.endswith(".*"):
        return name.startswith(pattern[:-1])
    return pattern == name


def naive_roles(roles, role_id, seen=()):
    """Return a role and its ancestors by recursion."""
    known = {role.id: role for role in roles}
    if role_id not in known or role_id in seen:
        return set()
    found = {role_id}
    for parent in known[role_id].parents:
        found |= naive_roles(roles, parent, (*seen, role_id))
    return found


def naive_allows(roles, given_grants, now, *, name, stream_id):
    """Whether any grant, by any role, by any pattern, allows it."""
    return any(
        naive_match(pattern, name)
        for grant in given_grants
        if (grant.expires_at is None or grant.expires_at > now)
        and grant.stream_id in {None, stream_id}
        for role in roles
        if role.id in naive_roles(roles, grant.role_id)
        for pattern in role.permissions
    )


def allowed(roles, given_grants, now):
    """Return everything that is allowed, name by name and stream by stream."""
    found = effective_permissions(RoleGraph(roles), given_grants, now)
    return {(name, stream) for name in NAMES for stream in STREAMS if found.on(stream).allows(name)}


@patient
@given(role_lists(with_cycles=True), grant_lists, moments)
def test_permissions_are_those_of_the_naive_model(roles, given_grants, now):
    expected = {
        (name, stream)
        for name in NAMES
        for stream in STREAMS
        if naive_allows(roles, given_grants, now, name=name, stream_id=stream)
    }

    assert expected == allowed(roles, given_grants, now)


@patient
@given(role_lists(), moments)
def test_without_a_grant_nothing_is_allowed(roles, now):
    assert set() == allowed(roles, [], now)


@patient
@given(role_lists(), grant_lists, grants, moments)
def test_one_more_grant_takes_nothing_away(roles, given_grants, more, now):
    assert allowed(roles, given_grants, now) <= allowed(roles, [*given_grants, more], now)


@patient
@given(role_lists(), grant_lists, st.sampled_from(ROLES), permission_sets, moments)
def test_one_more_permission_takes_nothing_away(roles, given_grants, role_id, more, now):
    richer = [
        RoleDefinition(
            id=role.id,
            name=role.name,
            permissions=role.permissions | more if role.id == role_id else role.permissions,
            parents=role.parents,
        )
        for role in roles
    ]

    assert allowed(roles, given_grants, now) <= allowed(richer, given_grants, now)


@patient
@given(role_lists(), grant_lists, moments, st.randoms(use_true_random=False))
def test_order_and_repetition_make_no_difference(roles, given_grants, now, chance):
    shuffled_roles = chance.sample(roles, len(roles))
    shuffled_grants = chance.sample(given_grants, len(given_grants)) + given_grants[:2]

    assert allowed(roles, given_grants, now) == allowed(shuffled_roles, shuffled_grants, now)


@patient
@given(role_lists(), grant_lists, moments, moments)
def test_a_result_holds_exactly_until_it_says(roles, given_grants, now, later):
    found = effective_permissions(RoleGraph(roles), given_grants, now)

    if now <= later and (found.until is None or later < found.until):
        assert allowed(roles, given_grants, now) == allowed(roles, given_grants, later)
    if found.until is not None:
        assert now < found.until
        assert any(grant.expires_at == found.until for grant in given_grants)


@patient
@given(role_lists(), st.sampled_from(ROLES), st.sampled_from(ROLES))
def test_exactly_the_parents_that_close_a_cycle_are_refused(roles, role_id, parent_id):
    closes = role_id in naive_roles(roles, parent_id)
    path = cycle_of(RoleGraph(roles), role_id, parent_id)

    assert closes is (path is not None)
    if path is not None:
        known = {role.name: role for role in roles}
        assert (f"role{role_id}", f"role{parent_id}") == path[:2]
        assert path[0] == path[-1]
        for child, parent in pairwise(path[1:]):
            assert known[parent].id in known[child].parents


def cycle_of(graph, role_id, parent_id):
    """Return the cycle that a parent would close, or None."""
    try:
        graph.check_parent(role_id, parent_id)
    except RoleCycleError as error:
        return error.path
    return None


@patient
@given(permission_sets, permission_sets)
def test_sets_behave_as_sets_of_names(one, other):
    ones = {name for name in NAMES if one.allows(name)}
    others = {name for name in NAMES if other.allows(name)}

    assert ones & others == {name for name in NAMES if (one & other).allows(name)}
    assert ones | others == {name for name in NAMES if (one | other).allows(name)}
    assert one & other == other & one
    assert one | other == other | one
    assert one & other <= one <= one | other
    assert NOTHING <= one <= PermissionSet(one)


@patient
@given(pattern_lists)
def test_a_set_is_told_by_its_shortest_form(patterns):
    made = PermissionSet(patterns)

    assert made == PermissionSet(list(made))
    assert len(made) <= len(set(patterns))
    assert all(made.covers(pattern) for pattern in patterns)
    assert not any(PermissionSet(set(made) - {one}).covers(one) for one in made)
