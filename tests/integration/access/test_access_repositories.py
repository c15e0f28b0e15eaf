"""What the statements about roles, grants, keys and identities say, on a real database."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text

from rootstream_db.errors import ConflictError, NotFoundError
from rootstream_db.models import ApiKey, ExternalIdentity, Role
from rootstream_db.security.permissions import Grant, PermissionSet, RoleGraph
from rootstream_db.testing import EPOCH
from tests.factories import make_stream, make_user
from tests.fixtures.database import BUILT_IN_ROLES

DAY = timedelta(days=1)


@pytest.fixture
def role(work):
    return work.roles.add(Role(name="guest"))


def graph(work):
    return RoleGraph(work.roles.load().roles)


def test_the_built_in_roles_are_there_after_the_migration(work):
    found = graph(work)
    held = {role.name: found.permissions(role.id) for role in work.roles.list_all()}

    viewer = {"stream.watch", "chat.read", "chat.write"}
    assert {
        "viewer": PermissionSet(viewer),
        "streamer": PermissionSet({*viewer, "stream.create"}),
        "owner": PermissionSet({"stream.*", "recording.*", "chat.*", "viewer.*"}),
        "moderator": PermissionSet({"chat.*", "viewer.*", "stream.watch"}),
        "admin": PermissionSet({"*"}),
    } == held
    assert all(role.is_builtin for role in work.roles.list_all())


def test_what_a_site_made_of_a_built_in_role_stays_when_the_release_says_its_own_again(work):
    moderator = work.roles.get_one_by_name("moderator")
    moderator.customized_at = work.now
    work.roles.replace_permissions(moderator.id, ["chat.delete"])
    work.roles.remove_parent(moderator.id, work.roles.get_one_by_name("viewer").id)
    viewer = work.roles.get_one_by_name("viewer")
    work.roles.replace_permissions(viewer.id, [])
    work.session.flush()

    work.session.execute(text(BUILT_IN_ROLES.read_text()))

    assert ["chat.delete"] == work.roles.list_permissions(moderator.id)
    assert [] == work.roles.list_parents(moderator.id)
    assert ["chat.read", "chat.write", "stream.watch"] == work.roles.list_permissions(viewer.id)


def test_roles_are_loaded_with_what_they_hold_and_inherit(work, role):
    viewer = work.roles.get_one_by_name("viewer")
    work.roles.replace_permissions(role.id, ["stream.*", "stream.*", "chat.ban"])
    assert work.roles.add_parent(role.id, viewer.id)
    assert not work.roles.add_parent(role.id, viewer.id)

    (loaded,) = (one for one in work.roles.load().roles if one.name == "guest")

    assert PermissionSet(["stream.*", "chat.ban"]) == loaded.permissions
    assert {viewer.id} == loaded.parents
    assert ["viewer"] == work.roles.list_parents(role.id)
    assert "guest" in work.roles.list_children(viewer.id)
    assert work.roles.remove_parent(role.id, viewer.id)
    assert not work.roles.remove_parent(role.id, viewer.id)


def test_a_database_without_roles_has_a_generation_all_the_same(work):
    for role in work.roles.list_all():
        work.roles.delete(role)

    assert () == work.roles.load().roles
    assert work.roles.hold_still() == work.roles.load().generation


def test_the_generation_goes_up(work):
    before = work.access.get_generation()

    first = work.roles.next_generation(work.now)
    assert before < first
    assert first + 1 == work.roles.next_generation(work.now)
    assert first + 1 == work.access.get_generation()


def test_a_role_that_is_not_there_is_named(work):
    with pytest.raises(NotFoundError, match="no Role with 'nobody'"):
        work.roles.get_one_by_name("nobody")


def test_a_grant_is_one_row_for_each_account_role_and_scope(work, role):
    user, stream = make_user(work), make_stream(work)
    first = put(work, user, role)
    again = put(work, user, role, expires_at=EPOCH + DAY)
    narrow = put(work, user, role, stream_id=stream.id)

    assert first.id == again.id
    assert EPOCH + DAY == again.expires_at
    assert narrow.id != first.id
    assert first is work.role_grants.find(user.id, role.id, None)
    assert narrow is work.role_grants.find(user.id, role.id, stream.id)
    assert [(first, "guest"), (narrow, "guest")] == work.role_grants.list_of_user(user.id)
    assert [first, narrow] == work.role_grants.list_of_role(role.id)
    assert [narrow] == work.role_grants.list_of_stream(stream.id)
    assert work.role_grants.remove(first.id)
    assert not work.role_grants.remove(first.id)


def test_an_account_is_loaded_with_the_grants_that_hold(work, role):
    user, stream = make_user(work), make_stream(work)
    viewer = work.roles.get_one_by_name("viewer")
    put(work, user, role, stream_id=stream.id, expires_at=EPOCH + DAY)
    put(work, user, viewer)
    put(work, user, role, expires_at=EPOCH)

    found = work.access.load(user.id, EPOCH)

    assert (0, True) == (found.version, found.is_active)
    assert {Grant(role.id, stream.id, EPOCH + DAY), Grant(viewer.id)} == set(found.grants)
    assert work.access.get_generation() == found.generation


def test_an_account_without_grants_has_none_and_a_missing_one_is_none(work):
    user = make_user(work, is_active=False)

    found = work.access.load(user.id, EPOCH)

    assert (False, ()) == (found.is_active, found.grants)
    assert work.access.load(0, EPOCH) is None


def test_versions_go_up_by_one_for_each_account_that_exists(work):
    one, other = make_user(work), make_user(work)

    assert {one.id: 1} == work.access.raise_versions([one.id])
    assert {one.id: 2, other.id: 1} == work.access.raise_versions([other.id, 0, one.id])
    assert 2 == work.access.load(one.id, EPOCH).version


def test_expired_grants_are_deleted_in_batches(work, role):
    users = [make_user(work) for _ in range(3)]
    for user in users:
        put(work, user, role, expires_at=EPOCH - DAY)
    put(work, users[0], work.roles.get_one_by_name("viewer"))

    assert [2, 1, 0] == [work.role_grants.delete_expired(EPOCH, limit=2) for _ in range(3)]
    assert 1 == len(work.role_grants.list_of_user(users[0].id))


def test_grants_go_with_account_role_and_stream(work, role):
    user, stream = make_user(work), make_stream(work)
    put(work, user, role, stream_id=stream.id)
    work.streams.delete(stream)
    assert [] == work.role_grants.list_of_user(user.id)

    put(work, user, role)
    work.roles.delete(role)
    assert [] == work.role_grants.list_of_user(user.id)


def test_a_use_of_a_key_is_recorded_once_in_a_while(work):
    key = work.api_keys.add(
        ApiKey(user_id=make_user(work).id, prefix="rsa1_abcd", key_hash=b"\1" * 32, scopes=["*"])
    )
    minute = timedelta(minutes=1)

    assert work.api_keys.record_use(key.id, EPOCH, unless_since=EPOCH - minute)
    assert not work.api_keys.record_use(key.id, EPOCH + minute / 2, unless_since=EPOCH - minute / 2)
    assert work.api_keys.record_use(key.id, EPOCH + minute, unless_since=EPOCH)
    assert EPOCH + minute == work.api_keys.lock(key.id).last_used_at
    with pytest.raises(NotFoundError, match="no ApiKey with 0"):
        work.api_keys.lock(0)


def test_an_identity_belongs_to_one_account(work):
    user = make_user(work)
    made = work.external_identities.add(
        ExternalIdentity(user_id=user.id, issuer="https://id.example", subject="7")
    )

    assert made is work.external_identities.get_by_subject("https://id.example", "7")
    assert work.external_identities.get_by_subject("https://id.example", "8") is None
    assert [made] == work.external_identities.list_of_user(user.id)
    with pytest.raises(ConflictError) as caught, work.savepoint():
        work.external_identities.add(
            ExternalIdentity(user_id=make_user(work).id, issuer="https://id.example", subject="7")
        )
    assert "uq_external_identities_issuer_subject" == caught.value.constraint


def put(work, user, role, *, stream_id=None, expires_at=None):
    return work.role_grants.put(user.id, role.id, stream_id, granted_by=None, expires_at=expires_at)
