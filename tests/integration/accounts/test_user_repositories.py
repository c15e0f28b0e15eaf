"""How accounts, tokens, throttles and sessions are found and changed."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from datetime import timedelta

import pytest
from sqlalchemy import text

from rootstream_db.errors import NotFoundError
from rootstream_db.models import LoginThrottle, RevokeReason, TokenPurpose, UserToken
from tests.factories import make_session, make_user

HOUR = timedelta(hours=1)
WINDOW = timedelta(minutes=15)


def digest(text):
    return hashlib.sha256(text.encode()).digest()


def add_token(work, user, *, expires_in=HOUR, used=False, purpose=TokenPurpose.RESET_PASSWORD):
    return work.user_tokens.add(
        UserToken(
            user_id=user.id,
            purpose=purpose,
            token_hash=secrets.token_bytes(32),
            expires_at=work.now + expires_in,
            used_at=work.now if used else None,
        )
    )


def add_session(work, user, *, expires_in=HOUR, seen=timedelta(0), revoked=False):
    return make_session(
        work,
        user,
        last_seen_at=work.now + seen,
        expires_at=work.now + expires_in,
        revoked_at=work.now if revoked else None,
        revoke_reason=RevokeReason.LOGOUT if revoked else None,
    )


# users


def test_a_user_is_found_by_name_and_address_in_any_case(work):
    user = make_user(work, username="Alice", email="Alice@example.com")
    assert [user] * 6 == [
        work.users.get_by_username("aLICE"),
        work.users.get_by_email("ALICE@EXAMPLE.COM"),
        work.users.get_by_login("alice"),
        work.users.get_by_login("alice@example.com"),
        work.users.get_by_public_id(user.public_id),
        work.users.get_one(user.id),
    ]


def test_who_does_not_exist_is_not_found(work):
    make_user(work, username="Alice", email="alice@example.com")
    assert [None] * 6 == [
        work.users.get_by_username("alic"),
        work.users.get_by_username("alice@example.com"),
        work.users.get_by_email("alice"),
        work.users.get_by_login("%"),
        work.users.get_by_public_id(uuid.uuid4()),
        work.users.get(0),
    ]
    with pytest.raises(NotFoundError, match="no User with 0"):
        work.users.lock(0)


def test_a_look_up_shows_the_account_as_it_is_now(work):
    user = make_user(work, username="Alice", display_name="as it was")
    work.session.execute(text("UPDATE users SET display_name = 'changed beside the ORM'"))
    assert "changed beside the ORM" == work.users.get_by_username("alice").display_name
    assert user is work.users.lock(user.id)


def test_users_are_listed_from_the_newest_page_by_page(work):
    users = [make_user(work) for _ in range(5)]
    first = work.users.list_newest(limit=2)
    second = work.users.list_newest(limit=2, before_id=first[-1].id)
    assert [users[4], users[3], users[2], users[1]] == [*first, *second]
    assert 5 == work.users.count()


LOOK_UPS = {
    "uq_users_username_lower": "SELECT * FROM users WHERE lower(username) = lower('Alice')",
    "uq_users_email_lower": "SELECT * FROM users WHERE lower(email) = lower('Al@example.com')",
    "ix_user_tokens_user_id": "SELECT * FROM user_tokens WHERE user_id = 7",
    "ix_sessions_user_id_open": """
        SELECT * FROM sessions WHERE user_id = 7 AND revoked_at IS NULL
        ORDER BY last_seen_at DESC LIMIT 9
    """,
    "ix_sessions_expires_at": """
        SELECT * FROM sessions WHERE expires_at < now() ORDER BY expires_at LIMIT 9
    """,
}


@pytest.mark.parametrize("index", LOOK_UPS)
def test_each_look_up_is_answered_by_its_index(work, index):
    work.session.execute(text("SET LOCAL enable_seqscan = off"))
    plan = "\n".join(work.session.scalars(text(f"EXPLAIN {LOOK_UPS[index]}")))
    assert index in plan


def test_a_login_is_recorded_only_while_the_verified_hash_is_the_password(work):
    user = make_user(work, password_hash="old")
    refused = work.users.record_login(
        user.id, verified_hash="older", password_hash="new", now=work.now
    )
    admitted = work.users.record_login(
        user.id, verified_hash="old", password_hash="new", now=work.now
    )
    assert (None, user) == (refused, admitted)
    assert ("new", work.now) == (user.password_hash, user.last_login_at)


def test_a_login_of_a_deactivated_account_is_not_recorded(work):
    user = make_user(work, password_hash="old", is_active=False)
    assert None is work.users.record_login(
        user.id, verified_hash="old", password_hash="old", now=work.now
    )


# one-time tokens


def test_a_token_is_found_by_its_digest_and_redeemed_once(work):
    token = add_token(work, make_user(work))
    assert token is work.user_tokens.get_by_hash(token.token_hash)
    assert token is work.user_tokens.redeem(token.token_hash, now=work.now)
    assert work.now == token.used_at
    assert None is work.user_tokens.redeem(token.token_hash, now=work.now)


def test_a_token_is_not_redeemed_from_the_moment_it_expires(work):
    token = add_token(work, make_user(work))
    just_before = token.expires_at - timedelta(microseconds=1)
    assert None is work.user_tokens.redeem(token.token_hash, now=token.expires_at)
    assert token is work.user_tokens.redeem(token.token_hash, now=just_before)


def test_voiding_deletes_unused_tokens_of_the_account_alone(work):
    alice, bob = make_user(work), make_user(work)
    reset, verify = (
        add_token(work, alice),
        add_token(work, alice, purpose=TokenPurpose.VERIFY_EMAIL),
    )
    used, other = add_token(work, alice, used=True), add_token(work, bob)
    hashes = [token.token_hash for token in (reset, verify, used, other)]
    assert 1 == work.user_tokens.void(alice.id, TokenPurpose.RESET_PASSWORD)
    assert 1 == work.user_tokens.void(alice.id)
    found = [work.user_tokens.get_by_hash(each) for each in hashes]
    assert [None, None, used, other] == found


def test_expired_tokens_are_deleted_in_batches(work):
    user = make_user(work)
    for _ in range(3):
        add_token(work, user, expires_in=-HOUR)
    kept = add_token(work, user)
    deleted = [work.user_tokens.delete_expired(work.now, limit=2) for _ in range(3)]
    assert [2, 1, 0] == deleted
    assert kept is work.user_tokens.get_by_hash(kept.token_hash)


# login throttle


def test_attempts_are_counted_one_by_one(work):
    counts = [
        work.login_throttle.reserve(digest("alice"), now=work.now, window=WINDOW) for _ in range(3)
    ]
    assert [1, 2, 3] == counts


def test_the_count_starts_anew_when_the_window_is_over(work):
    key = digest("alice")
    work.login_throttle.reserve(key, now=work.now, window=WINDOW)
    late = work.now + WINDOW
    assert 2 == work.login_throttle.reserve(key, now=late - timedelta(seconds=1), window=WINDOW)
    assert 1 == work.login_throttle.reserve(key, now=late, window=WINDOW)


def test_a_locked_login_is_not_counted(work):
    key = digest("alice")
    work.login_throttle.reserve(key, now=work.now, window=WINDOW)
    work.login_throttle.lock(key, work.now + HOUR)
    just_before = work.now + HOUR - timedelta(microseconds=1)
    assert None is work.login_throttle.reserve(key, now=just_before, window=WINDOW)
    row = work.login_throttle.get_one(key)
    work.session.refresh(row)
    assert (1, HOUR) == (row.failures, row.wait(work.now))


def test_the_count_goes_on_after_a_lock_and_is_forgotten_a_window_later(work):
    key = digest("alice")
    work.login_throttle.reserve(key, now=work.now, window=WINDOW)
    end = work.now + HOUR
    work.login_throttle.lock(key, end)
    assert 2 == work.login_throttle.reserve(key, now=end, window=WINDOW)
    assert 1 == work.login_throttle.reserve(key, now=end + WINDOW, window=WINDOW)
    row = work.login_throttle.get_one(key)
    work.session.refresh(row)
    assert (None, end + WINDOW) == (row.locked_until, row.window_started_at)


def test_clearing_forgets_the_logins_given_and_no_others(work):
    for login in ("alice", "bob", "carol"):
        work.login_throttle.reserve(digest(login), now=work.now, window=WINDOW)
    work.login_throttle.clear([digest("alice"), digest("bob"), digest("nobody")])
    left = work.session.query(LoginThrottle.login_hash).all()
    assert [(digest("carol"),)] == left


def test_idle_counts_are_deleted_in_batches_and_locks_kept(work):
    for login in ("alice", "bob", "carol", "locked"):
        work.login_throttle.reserve(digest(login), now=work.now - HOUR, window=WINDOW)
    work.login_throttle.lock(digest("locked"), work.now + HOUR)
    deleted = [work.login_throttle.delete_idle(work.now, limit=2) for _ in range(3)]
    assert [2, 1, 0] == deleted
    assert None is not work.login_throttle.get(digest("locked"))


# sessions


def test_a_session_is_found_by_the_digest_of_its_token(work):
    session = add_session(work, make_user(work))
    assert session is work.sessions.get_by_token(session.token_hash)
    assert None is work.sessions.get_by_token(digest("other"))


def test_open_sessions_are_listed_the_one_seen_last_first(work):
    user = make_user(work)
    older, newer = add_session(work, user, seen=-HOUR), add_session(work, user)
    add_session(work, user, revoked=True)
    add_session(work, user, expires_in=timedelta(0))
    add_session(work, make_user(work))
    assert [newer, older] == work.sessions.list_open(user.id, now=work.now)
    assert [newer] == work.sessions.list_open(user.id, now=work.now, limit=1)


def test_revoking_all_returns_what_was_open(work):
    user, other = make_user(work), make_user(work)
    open_sessions = [add_session(work, user) for _ in range(2)]
    add_session(work, user, revoked=True)
    untouched = add_session(work, other)
    revoked = work.sessions.revoke_all(user.id, now=work.now, reason=RevokeReason.ADMIN)
    assert {session.token_hash for session in open_sessions} == {
        ended.token_hash for ended in revoked
    }
    assert [] == work.sessions.list_open(user.id, now=work.now)
    assert [untouched] == work.sessions.list_open(other.id, now=work.now)


def test_expired_sessions_are_deleted_in_batches(work):
    user = make_user(work)
    for _ in range(3):
        add_session(work, user, expires_in=-HOUR)
    kept = add_session(work, user, expires_in=timedelta(0))
    assert [2, 1, 0] == [work.sessions.delete_expired(work.now, limit=2) for _ in range(3)]
    assert kept is work.sessions.get_by_token(kept.token_hash)


def test_two_cleaners_delete_different_rows_without_waiting(committed_database):
    with committed_database.transaction() as work:
        user = make_user(work)
        for _ in range(4):
            add_session(work, user, expires_in=-HOUR)
    with committed_database.transaction() as first:
        assert 2 == first.sessions.delete_expired(first.now, limit=2)
        with committed_database.transaction() as second:
            assert 2 == second.sessions.delete_expired(second.now, limit=9)
