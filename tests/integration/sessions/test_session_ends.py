"""How sessions end: by rotation, by revocation, all at once, and by the cleaner."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text

from rootstream_db.errors import (
    InvalidTokenError,
    SessionRevokedError,
    ValidationError,
)
from rootstream_db.models import RevokeReason
from tests.factories import make_user

DAY, SECOND = timedelta(days=1), timedelta(seconds=1)


# rotation


def test_a_rotated_session_has_one_token(sessions, log_in):
    first = log_in(device_fingerprint="a browser")
    second = sessions.rotate(first.token)
    assert sessions.validate(second.token, device_fingerprint="a browser")
    for use in (sessions.validate, sessions.refresh, sessions.rotate):
        with pytest.raises(SessionRevokedError):
            use(first.token)
    assert sessions.validate(second.token)


def test_a_replaced_token_that_comes_back_late_ends_the_session(
    sessions, log_in, alice, clock, told
):
    first = log_in()
    second = sessions.rotate(first.token)
    clock.advance(10)
    with pytest.raises(SessionRevokedError):
        sessions.validate(first.token)
    third = sessions.rotate(second.token)
    clock.advance(11)
    with pytest.raises(SessionRevokedError):
        sessions.validate(first.token)
    with pytest.raises(SessionRevokedError):
        sessions.validate(third.token)
    assert ("SessionsRevoked", {"session_ids": [third.session.id], "reason": "reuse"}) == (
        told(alice)[-1]
    )


# revocation


def test_logging_out_ends_the_session(sessions, log_in, alice, told):
    issued, other = log_in(), log_in()
    sessions.validate(issued.token)
    result = sessions.revoke(issued.token)
    assert (1, True) == (result.revoked, result.immediate)
    with pytest.raises(SessionRevokedError):
        sessions.validate(issued.token)
    assert sessions.validate(other.token)
    assert 0 == sessions.revoke(issued.token).revoked
    assert ("SessionsRevoked", {"session_ids": [issued.session.id], "reason": "logout"}) == (
        told(alice)[-1]
    )


def test_a_session_of_a_list_is_ended_only_for_its_owner(rootstream, sessions, log_in, alice):
    with rootstream.transaction() as work:
        mallory = make_user(work)
    issued = log_in()
    asked = {"reason": RevokeReason.USER}
    assert 0 == sessions.revoke(issued.session.id, user=mallory, **asked).revoked
    assert sessions.validate(issued.token)
    assert 1 == sessions.revoke(issued.session.id, user=alice, **asked).revoked
    assert 0 == sessions.revoke(0).revoked


def test_ending_a_session_ends_what_took_its_place(sessions, log_in):
    first = log_in()
    second = sessions.rotate(first.token)
    assert 1 == sessions.revoke(first.session.id).revoked
    with pytest.raises(SessionRevokedError):
        sessions.validate(second.token)


def test_all_sessions_end_but_the_one_that_is_kept(rootstream, sessions, log_in, alice):
    issued = [log_in() for _ in range(3)]
    with rootstream.transaction() as work:
        result = sessions.revoke_all_for_user(
            work, alice, except_session=issued[0].session.id, reason="mfa"
        )
    assert (2, True) == (result.revoked, result.immediate)
    rootstream.cache.client.flushdb()
    assert sessions.validate(issued[0].token)
    for one in issued[1:]:
        with pytest.raises(SessionRevokedError):
            sessions.validate(one.token)
    with rootstream.transaction() as work:
        listed = sessions.list_for_user(work, alice)
    assert [issued[0].session.id] == [one.id for one in listed]


def test_an_unknown_reason_is_refused(rootstream, sessions, alice, log_in):
    with pytest.raises(ValidationError), rootstream.transaction() as work:
        sessions.revoke_all_for_user(work, alice, reason="because")
    with pytest.raises(ValidationError):
        sessions.revoke(log_in().token, reason="because")


def test_a_rolled_back_revocation_ends_nothing(rootstream, sessions, log_in, alice):
    issued = log_in()
    sessions.validate(issued.token)
    with pytest.raises(RuntimeError), rootstream.transaction() as work:
        sessions.revoke_all_for_user(work, alice)
        raise RuntimeError
    assert sessions.validate(issued.token)
    # And once more, when nothing but the mark is left to read.
    assert sessions.validate(issued.token)


def test_a_revocation_holds_from_the_commit_on_and_not_before(rootstream, another, log_in, alice):
    elsewhere = another().sessions
    issued = log_in()
    elsewhere.validate(issued.token)
    with rootstream.transaction() as work:
        rootstream.sessions.revoke_all_for_user(work, alice)
        assert elsewhere.validate(issued.token)
    with pytest.raises(SessionRevokedError):
        elsewhere.validate(issued.token)


# all of them


def test_after_a_restore_every_session_is_dead_in_every_process(rootstream, another, log_in, clock):
    elsewhere = another().sessions
    issued = log_in()
    elsewhere.validate(issued.token)
    result = rootstream.sessions.invalidate_all("restored to 11:55")
    assert (1, True) == (result.revoked, result.immediate)
    for sessions in (elsewhere, rootstream.sessions):
        with pytest.raises(SessionRevokedError):
            sessions.validate(issued.token)
    clock.advance(SECOND)
    assert elsewhere.validate(log_in().token)


def test_what_a_late_look_up_puts_back_counts_no_longer_than_the_result_says(
    rootstream, another, log_in, clock
):
    elsewhere, redis = another().sessions, rootstream.cache.client
    issued = log_in()
    (key,) = redis.keys("*session*")
    entry = redis.get(key)
    result = rootstream.sessions.invalidate_all("restored to 11:55")
    # Somebody who asked PostgreSQL before is done only now.
    assert redis.set(key, entry, nx=True)
    while elsewhere_accepts(elsewhere, issued):
        assert clock() < result.effective_by
        clock.advance(SECOND)


def elsewhere_accepts(elsewhere, issued):
    try:
        return elsewhere.validate(issued.token)
    except SessionRevokedError:
        return None


def test_a_restore_that_forgot_the_last_generation_brings_nothing_back(rootstream, log_in, clock):
    before = log_in()
    rootstream.sessions.invalidate_all("first")
    clock.advance(SECOND)
    lost = log_in()
    with rootstream.transaction() as work:
        # The database as it was before the first call, the cache as it is now.
        work.session.execute(text("UPDATE auth_state SET generation = 1"))
        work.session.execute(text("DELETE FROM sessions WHERE id = :id"), {"id": lost.session.id})
    clock.advance(SECOND)
    rootstream.sessions.invalidate_all("restored")
    for issued in (before, lost):
        with pytest.raises((SessionRevokedError, InvalidTokenError)):
            rootstream.sessions.validate(issued.token)
    with pytest.raises(ValidationError):
        rootstream.sessions.invalidate_all(" ")


# upkeep


def test_expired_sessions_are_deleted(rootstream, sessions, log_in, clock):
    for _ in range(3):
        log_in()
    clock.advance(30 * DAY + SECOND)
    kept = log_in()
    assert 3 == sessions.delete_expired(batch=2)
    assert 0 == sessions.delete_expired()
    assert sessions.validate(kept.token)
