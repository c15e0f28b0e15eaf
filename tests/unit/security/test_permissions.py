"""Names, patterns, cycles: the single cases; the laws are in tests/property."""

from __future__ import annotations

import pickle
from datetime import timedelta

import pytest

from rootstream_db.errors import ConflictError, RoleCycleError, ValidationError
from rootstream_db.security.permissions import (
    NOTHING,
    Grant,
    PermissionSet,
    RoleDefinition,
    RoleGraph,
    check_permission,
    effective_permissions,
)
from rootstream_db.testing import EPOCH

VIEWER = RoleDefinition(id=1, name="viewer", permissions=PermissionSet(["chat.read"]))
MODERATOR = RoleDefinition(
    id=2, name="moderator", permissions=PermissionSet(["chat.*"]), parents=frozenset({1})
)
HEAD = RoleDefinition(id=3, name="head", parents=frozenset({2}))
GRAPH = RoleGraph([VIEWER, MODERATOR, HEAD])


@pytest.mark.parametrize("name", ["stream.update", "stream.key.rotate", "a.b", "x1.y-z_2"])
def test_a_permission_is_words_joined_by_dots(name):
    assert name == check_permission(name)


@pytest.mark.parametrize(
    "name",
    [
        "stream",
        "stream.",
        ".update",
        "Stream.update",
        "stream.*",
        "*",
        "stream..x",
        "ström.a",
        "stream.1x",
        "stream,update",
    ],
)
def test_what_is_no_permission_is_refused(name):
    with pytest.raises(ValidationError, match="is no permission") as caught:
        NOTHING.allows(name)
    assert "permission" == caught.value.field


@pytest.mark.parametrize("name", ["", "stream.update\n", " stream.update", "a." + "b" * 99])
def test_neither_is_text_around_one_or_too_much_of_it(name):
    with pytest.raises(ValidationError, match="is no permission"):
        check_permission(name)


@pytest.mark.parametrize("pattern", ["**", "*.update", "stream.*.x", "stream*", "stream", ""])
def test_what_is_no_pattern_is_refused(pattern):
    with pytest.raises(ValidationError, match="is neither a permission"):
        PermissionSet([pattern])


def test_a_wildcard_covers_what_is_below_it_at_any_depth_and_nothing_beside_it():
    held = PermissionSet(["stream.key.*"])

    assert held.allows("stream.key.rotate")
    assert held.allows("stream.key.label.change")
    assert not held.allows("stream.key")
    assert not held.allows("stream.keys.rotate")
    assert not held.allows("stream.update")


def test_patterns_that_others_cover_are_left_out():
    assert ["stream.*"] == list(PermissionSet(["stream.key.*", "stream.update", "stream.*"]))
    assert PermissionSet(["*"]) == PermissionSet(["*", "stream.*", "chat.read"])
    assert "PermissionSet(['chat.read', 'stream.*'])" == repr(
        PermissionSet(["stream.*", "chat.read"])
    )


def test_a_role_has_what_its_ancestors_have():
    assert PermissionSet(["chat.*"]) == GRAPH.permissions(3)
    assert NOTHING == GRAPH.permissions(99)


def test_a_cycle_is_named_by_its_roles():
    with pytest.raises(RoleCycleError, match="viewer > head > moderator > viewer") as caught:
        GRAPH.check_parent(1, 3)

    assert ("viewer", "head", "moderator", "viewer") == caught.value.path
    assert isinstance(caught.value, ConflictError)
    assert caught.value.path == pickle.loads(pickle.dumps(caught.value)).path  # noqa: S301 - ours


def test_a_role_is_no_parent_of_its_own():
    with pytest.raises(RoleCycleError, match="head > head"):
        GRAPH.check_parent(3, 3)


def test_a_grant_on_one_stream_counts_there_only():
    found = effective_permissions(GRAPH, [Grant(2, stream_id=7), Grant(1)], EPOCH)

    assert found.on(7).allows("chat.write")
    assert not found.on(8).allows("chat.write")
    assert not found.on(None).allows("chat.write")
    assert found.on(8).allows("chat.read")


def test_a_grant_ends_at_the_instant_of_its_expiry():
    ends = EPOCH + timedelta(seconds=1)
    grants = [Grant(1, expires_at=ends), Grant(2, expires_at=ends + timedelta(days=1))]
    just_before = ends - timedelta(microseconds=1)

    assert ends == effective_permissions(GRAPH, grants, just_before).until
    assert ends + timedelta(days=1) == effective_permissions(GRAPH, grants, ends).until
    assert effective_permissions(GRAPH, grants[:1], just_before).on(None).allows("chat.read")
    assert not effective_permissions(GRAPH, grants[:1], ends).on(None).allows("chat.read")
