"""Roles: made, filled, joined, removed; two administrators at once cannot close a cycle."""

from __future__ import annotations

import threading

import pytest

from rootstream_db.errors import ConflictError, NotFoundError, RoleCycleError, ValidationError


@pytest.fixture
def roles(rootstream, access):
    """Three roles, each of which inherits from the one before."""
    with rootstream.transaction() as work:
        access.create_role(work, "one", permissions=["chat.read"])
        access.create_role(work, "two", permissions=["chat.ban"], parents=["one"])
        access.create_role(work, "three", parents=["two"])


def test_a_role_holds_its_permissions_and_those_of_its_parents(roles, access, user, grant):
    grant(user, "three")

    assert {"chat.read", "chat.ban"} <= set(access.permissions_of(user.id))


def test_a_change_of_a_role_counts_for_all_who_have_it(rootstream, roles, access, user, grant):
    grant(user, "three")
    assert not access.can(user, "ban.lift")

    with rootstream.transaction() as work:
        access.set_permissions(work, "one", ["ban.*"])

    access.require(user, "ban.lift")


def test_a_parent_that_is_taken_away_takes_its_permissions_along(
    rootstream, roles, access, user, grant
):
    grant(user, "three")
    access.require(user, "chat.ban")

    with rootstream.transaction() as work:
        change = access.remove_parent(work, "three", "two")

    assert not access.can(user, "chat.ban")
    assert (True, rootstream.clock()) == (change.immediate, change.effective_by)


def test_a_cycle_is_refused_and_named(rootstream, roles, access):
    with (
        pytest.raises(RoleCycleError, match="one > three > two > one"),
        rootstream.transaction() as work,
    ):
        access.add_parent(work, "one", "three")


def test_two_changes_at_once_cannot_close_a_cycle_between_them(rootstream, roles, access):
    with rootstream.transaction() as work:
        access.create_role(work, "left")
        access.create_role(work, "right")
    barrier, refused = threading.Barrier(2), []

    def join(child, parent):
        barrier.wait()
        try:
            with rootstream.transaction() as work:
                access.add_parent(work, child, parent)
        except RoleCycleError as error:
            refused.append(error)

    threads = [
        threading.Thread(target=join, args=pair) for pair in (("left", "right"), ("right", "left"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 1 == len(refused)


def test_a_role_that_is_removed_is_nobodys_any_more(rootstream, roles, access, user, grant):
    grant(user, "two")
    access.require(user, "chat.ban")

    with rootstream.transaction() as work:
        change = access.delete_role(work, "two")
        access.create_role(work, "two", permissions=["chat.ban"])

    assert change.immediate
    assert not access.can(user, "chat.ban")


def test_a_built_in_role_is_not_removed_but_may_be_changed(rootstream, access):
    with (
        pytest.raises(ConflictError, match="'viewer' is a built-in role"),
        rootstream.transaction() as work,
    ):
        access.delete_role(work, "viewer")

    with rootstream.transaction() as work:
        assert work.roles.get_one_by_name("viewer").customized_at is None
        access.set_permissions(work, "viewer", [])
    with rootstream.transaction() as work:
        assert rootstream.clock() == work.roles.get_one_by_name("viewer").customized_at


def test_names_are_taken_once(rootstream, roles, access):
    with (
        pytest.raises(ConflictError, match="there is a role 'one' already"),
        rootstream.transaction() as work,
    ):
        access.create_role(work, "one")


@pytest.mark.parametrize("name", ["", "One", "1st", "a b", "a" * 51, "rôle"])
def test_what_cannot_be_a_name_is_refused(rootstream, access, name):
    with pytest.raises(ValidationError) as caught, rootstream.transaction() as work:
        access.create_role(work, name)
    assert "name" == caught.value.field


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"description": "two\nlines"}, "description"),
        ({"description": "x" * 201}, "description"),
        ({"permissions": ["Chat.read"]}, "permission"),
        ({"permissions": "chat.read"}, "permissions"),
    ],
)
def test_wrong_input_makes_no_role(rootstream, access, options, field):
    with pytest.raises(ValidationError) as caught, rootstream.transaction() as work:
        access.create_role(work, "guest", **options)
    assert field == caught.value.field


def test_roles_that_are_not_there_are_named(rootstream, roles, access):
    with rootstream.transaction() as work:
        for call in (
            lambda: access.create_role(work, "new", parents=["nobody"]),
            lambda: access.set_permissions(work, "nobody", []),
            lambda: access.add_parent(work, "one", "nobody"),
            lambda: access.remove_parent(work, "nobody", "one"),
            lambda: access.delete_role(work, "nobody"),
        ):
            with pytest.raises(NotFoundError, match="nobody"):
                call()


def test_every_change_is_an_event(rootstream, access, events_of):
    with rootstream.transaction() as work:
        role = access.create_role(work, "guest", permissions=["a.b", "a.c"], parents=["viewer"])
        access.set_permissions(work, "guest", ["a.c", "a.d"])
        access.remove_parent(work, "guest", "viewer")
        access.add_parent(work, "guest", "admin")
        access.delete_role(work, "guest")

    assert [
        ("RoleCreated", {"name": "guest", "permissions": ["a.b", "a.c"], "parents": ["viewer"]}),
        ("RolePermissionsSet", {"name": "guest", "added": ["a.d"], "removed": ["a.b"]}),
        ("RoleParentRemoved", {"name": "guest", "parent": "viewer"}),
        ("RoleParentAdded", {"name": "guest", "parent": "admin"}),
        ("RoleDeleted", {"name": "guest"}),
    ] == events_of("AccessRole", role.id)
