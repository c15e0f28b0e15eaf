"""Grants and what they allow: scope, expiry to the instant, ownership, who did it."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from rootstream_db.audit import acting
from rootstream_db.errors import NotFoundError, PermissionDeniedError, ValidationError
from rootstream_db.security.permissions import PermissionSet
from rootstream_db.testing import EPOCH
from tests.factories import make_stream, make_user

HOUR = timedelta(hours=1)


def test_what_nobody_granted_is_denied_and_the_error_says_what_was_missing(access, user, stream):
    with pytest.raises(
        PermissionDeniedError, match=r"permission 'stream\.update' is missing on stream"
    ) as caught:
        access.require(user, "stream.update", stream_id=stream.id)

    assert "stream.update" == caught.value.permission
    assert {"permission": "stream.update", "user_id": user.id, "stream_id": stream.id} == (
        caught.value.context
    )


def test_everybody_with_an_account_is_a_viewer(access, user):
    access.require(user, "stream.watch")
    assert PermissionSet(["stream.watch", "chat.read", "chat.write"]) == access.permissions_of(
        user.id
    )


def test_an_account_its_id_and_its_session_are_the_same_subject(rootstream, access, user, grant):
    grant(user, "admin")
    with rootstream.transaction() as work:
        issued = rootstream.sessions.create(work, user)

    for subject in (user, user.id, rootstream.sessions.validate(issued.token)):
        access.require(subject, "access.manage")


def test_a_grant_on_one_stream_counts_there_and_nowhere_else(access, user, stream, grant):
    grant(user, "moderator", stream=stream)

    access.require(user, "chat.ban", stream_id=stream.id)
    assert not access.can(user, "chat.ban", stream_id=stream.id + 1)
    assert not access.can(user, "chat.ban")
    assert access.permissions_of(user.id, stream_id=stream.id).allows("chat.ban")
    assert not access.permissions_of(user.id).allows("chat.ban")


def test_a_grant_everywhere_counts_on_every_stream(access, user, stream, grant):
    grant(user, "moderator")

    access.require(user, "chat.ban", stream_id=stream.id)
    access.require(user, "chat.ban")


def test_owners_may_do_on_their_streams_what_owners_may(rootstream, access, user, stream):
    with rootstream.transaction() as work:
        own = make_stream(work, user)

    access.require(user, "stream.key.rotate", stream_id=own.id)
    assert access.permissions_of(user.id, stream_id=own.id).allows("stream.update")
    assert not access.can(user, "stream.update", stream_id=stream.id)
    assert not access.can(user, "stream.update")
    assert not access.can(user, "stream.update", stream_id=0)
    assert not access.can(user, "billing.read", stream_id=own.id)


def test_a_closed_account_may_nothing_not_even_on_its_own_stream(rootstream, access, user, grant):
    grant(user, "admin")
    with rootstream.transaction() as work:
        own = make_stream(work, user)
    access.require(user, "stream.update", stream_id=own.id)

    with rootstream.transaction() as work:
        rootstream.accounts.deactivate(work, user)
    assert not access.can(user, "stream.update", stream_id=own.id)
    assert not access.can(user, "stream.watch")
    assert PermissionSet() == access.permissions_of(user.id, stream_id=own.id)

    with rootstream.transaction() as work:
        rootstream.accounts.reactivate(work, user)
    access.require(user, "stream.update", stream_id=own.id)


def test_an_account_that_is_deleted_or_was_never_there_may_nothing(rootstream, access, user, grant):
    grant(user, "admin")
    access.require(user, "access.manage")

    with rootstream.transaction() as work:
        rootstream.accounts.delete(work, user)

    assert not access.can(user.id, "access.manage")
    assert not access.can(0, "stream.watch")


def test_a_grant_ends_at_its_very_instant_though_it_is_cached(access, user, grant, clock):
    grant(user, "admin", expires_at=EPOCH + timedelta(seconds=30))

    clock.advance(29.999999)
    access.require(user, "access.manage")
    clock.advance(0.000001)
    assert not access.can(user, "access.manage")


def test_granting_again_moves_the_end(access, user, grant, clock):
    first = grant(user, "admin", expires_at=EPOCH + HOUR)
    again = grant(user, "admin", expires_at=EPOCH + 2 * HOUR)
    clock.advance(HOUR.total_seconds())

    access.require(user, "access.manage")
    assert first.id == again.id


def test_a_role_is_taken_where_it_was_given(rootstream, access, user, stream, grant, revoke):
    grant(user, "moderator", stream=stream)
    grant(user, "moderator")

    revoke(user, "moderator")

    assert not access.can(user, "chat.ban")
    access.require(user, "chat.ban", stream_id=stream.id)
    with pytest.raises(NotFoundError, match="moderator everywhere of user"):
        revoke(user, "moderator")
    with pytest.raises(NotFoundError, match="no Role with 'nobody'"):
        revoke(user, "nobody")
    change = revoke(user, "moderator", stream=stream)
    assert (True, rootstream.clock()) == (change.immediate, change.effective_by)


@pytest.mark.parametrize(
    ("expires_at", "message"),
    [
        (EPOCH, "is over already"),
        (datetime(2100, 1, 1), "needs a time zone"),  # noqa: DTZ001 - the wrong input
    ],
)
def test_a_grant_that_cannot_count_is_refused(user, grant, expires_at, message):
    with pytest.raises(ValidationError, match=message):
        grant(user, "admin", expires_at=expires_at)


def test_a_question_about_a_pattern_is_refused(access, user):
    with pytest.raises(ValidationError, match="is no permission"):
        access.require(user, "stream.*")
    with pytest.raises(ValidationError, match="is no permission"):
        access.can(user, "stream")


def test_every_grant_is_an_event_that_says_who_gave_it(
    rootstream, user, stream, grant, revoke, events_of
):
    with rootstream.transaction() as work:
        boss = make_user(work)
    with acting(user_id=boss.id):
        given = grant(user, "moderator", stream=stream, expires_at=EPOCH + HOUR)
        revoke(user, "moderator", stream=stream)
    assert boss.id == given.granted_by
    assert boss.id == grant(user, "viewer", granted_by=boss).granted_by

    where = {"role": "moderator", "stream_id": stream.id}
    expires_at = (EPOCH + HOUR).isoformat()
    assert [
        ("RoleGranted", {**where, "expires_at": expires_at, "granted_by": boss.id}),
        ("RoleRevoked", where),
        (
            "RoleGranted",
            {"role": "viewer", "stream_id": None, "expires_at": None, "granted_by": boss.id},
        ),
    ] == events_of("User", user.id)
    trail = [event.event_type for event in rootstream.events.audit_trail(boss.id)]
    assert ["RoleGranted", "RoleRevoked"] == sorted(trail)


def test_a_change_that_is_rolled_back_changes_nothing(rootstream, access, user, events_of):
    with pytest.raises(RuntimeError), rootstream.transaction() as work:
        access.grant(work, user, "admin")
        raise RuntimeError
    with rootstream.transaction() as work:
        with pytest.raises(RuntimeError), work.savepoint():
            access.grant(work, user, "admin")
            raise RuntimeError
        access.grant(work, user, "moderator")

    assert not access.can(user, "access.manage")
    access.require(user, "chat.ban")
    assert ["RoleGranted"] == [kind for kind, _ in events_of("User", user.id)]


def test_expired_grants_are_deleted(rootstream, access, user, grant, clock):
    grant(user, "admin", expires_at=EPOCH + HOUR)
    grant(user, "moderator")
    clock.advance(HOUR.total_seconds() + 1)

    assert [1, 0] == [rootstream.run(access.delete_expired) for _ in range(2)]
    access.require(user, "chat.ban")
