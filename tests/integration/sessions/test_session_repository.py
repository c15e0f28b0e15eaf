"""Opening, finding, touching and ending sessions, one at a time and all at once."""

from __future__ import annotations

import os
import secrets
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from rootstream_db import schema
from rootstream_db.models import RevokeReason, UserSession
from rootstream_db.repositories.session_rows import NewSession
from rootstream_db.security.assurance import AssuranceLevel, MfaMethod
from rootstream_db.testing import throwaway_servers
from tests.factories import make_session, make_user
from tests.fixtures.sessions import database_at, wait_for

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def new_session(user, now, **changes):
    made = NewSession(
        user_id=user.id,
        auth_epoch=user.auth_epoch,
        token_hash=secrets.token_bytes(32),
        token_version=1,
        now=now,
        idle_expires_at=now + HOUR,
        expires_at=now + 24 * HOUR,
        level=AssuranceLevel.PASSWORD,
        mfa_method=None,
        authenticated_at=now,
        mfa_at=None,
        device_fingerprint=None,
        device_label=None,
        ip_address=None,
        user_agent=None,
        location=None,
        limit=5,
    )
    return replace(made, **changes)


@pytest.fixture
def user(committed_database):
    with committed_database.transaction() as work:
        return make_user(work)


def together(threads, call):
    """Call from that many threads at the same moment and return what came back."""
    start = threading.Barrier(threads)

    def one(number):
        start.wait(60)
        return call(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, range(threads)))


def open_ids(database, user):
    with database.transaction() as work:
        return [session.id for session in work.sessions.list_open(user.id, now=work.now)]


# one at a time


def test_an_opened_session_is_found_by_its_digest_as_it_was_described(work):
    user = make_user(work)
    new = new_session(
        user,
        work.now,
        level=AssuranceLevel.MFA,
        mfa_method=MfaMethod.TOTP,
        mfa_at=work.now,
        device_fingerprint=b"f" * 16,
        device_label="Phone",
        ip_address="2001:db8::1",
        user_agent="Player/1",
        location="Lisbon",
    )
    opened = work.sessions.open(new)
    assert ("opened", 1, [], []) == (
        opened.outcome,
        opened.generation,
        opened.ended_ids,
        opened.ended,
    )
    row = work.sessions.get_by_token(new.token_hash)
    assert row is work.sessions.get(opened.session_id)
    for field in (
        *("user_id", "token_version", "auth_epoch", "level", "mfa_method", "mfa_at"),
        *("authenticated_at", "idle_expires_at", "expires_at", "device_fingerprint"),
        *("device_label", "ip_address", "user_agent", "location"),
    ):
        assert getattr(new, field) == getattr(row, field), field
    assert (work.now, work.now, row.id) == (row.created_at, row.last_seen_at, row.family)
    assert (AssuranceLevel, MfaMethod, str) == (
        *(type(row.level), type(row.mfa_method), type(row.last_ip_address)),
    )
    assert None is work.sessions.get_by_token(b"\0" * 32)


def test_what_decides_about_a_session_is_found_in_one_look_up(work):
    user = make_user(work)
    session = make_session(work, user, device_fingerprint=b"f" * 16)
    found = work.sessions.find(session.token_hash)
    assert (session.id, user.id, 1, session.id) == (
        *(found.id, found.user_id, found.level, found.family),
    )
    assert (True, 1, 1, b"f" * 16, None) == (
        *(found.is_account_unchanged, found.generation, found.current_generation),
        *(found.device_fingerprint, found.revoked_at),
    )
    work.users.bump_auth_epoch(user.id)
    work.auth_state.next_generation(now=work.now, reason="test")
    found = work.sessions.find(session.token_hash)
    assert not found.is_account_unchanged
    assert found.generation < found.current_generation
    assert None is work.sessions.find(b"\0" * 32)


def test_no_session_is_opened_for_a_closed_account_or_another_epoch(work):
    closed, changed = make_user(work, is_active=False), make_user(work)
    stale = new_session(changed, work.now)
    assert 1 == work.users.bump_auth_epoch(changed.id)
    outcomes = [work.sessions.open(new).outcome for new in (new_session(closed, work.now), stale)]
    assert ["account", "account"] == outcomes
    assert 0 == work.session.scalar(text("SELECT count(*) FROM sessions"))


def test_the_least_recently_seen_sessions_give_way_to_the_newest(work):
    user = make_user(work)
    old, older = (
        make_session(work, user, last_seen_at=work.now - age) for age in (MINUTE, 2 * MINUTE)
    )
    make_session(work, user, expires_at=work.now - 2 * HOUR)
    make_session(work)
    opened = work.sessions.open(new_session(user, work.now - HOUR, limit=2))
    assert ([older.id], [older.token_hash]) == (opened.ended_ids, opened.ended)
    listed = work.sessions.list_open(user.id, now=work.now - HOUR)
    assert [old.id, opened.session_id] == [session.id for session in listed]


def test_a_replaced_session_ends_and_its_successor_belongs_to_the_family(work):
    user = make_user(work)
    first = work.sessions.open(new_session(user, work.now))
    second = work.sessions.open(
        new_session(user, work.now, replaces=first.session_id, family=first.session_id)
    )
    assert [first.session_id] == second.ended_ids
    row = work.sessions.get(second.session_id)
    assert (first.session_id, first.session_id) == (row.rotated_from, row.family)
    again = work.sessions.open(new_session(user, work.now, replaces=first.session_id))
    assert ("replaced", None) == (again.outcome, again.session_id)


def test_a_touch_is_written_once_an_interval_and_never_beyond_the_end(work):
    session = make_session(work, idle_expires_at=work.now + HOUR)
    asked = {"interval": MINUTE, "idle": 48 * HOUR}
    assert None is work.sessions.touch(session.id, now=work.now + MINUTE / 2, **asked)
    until = work.sessions.touch(session.id, now=work.now + MINUTE, ip_address="192.0.2.7", **asked)
    assert session.expires_at == until
    assert None is work.sessions.touch(session.id, now=work.now + 1.5 * MINUTE, **asked)
    work.session.refresh(session)
    assert (work.now + MINUTE, "192.0.2.7") == (session.last_seen_at, session.last_ip_address)
    assert None is work.sessions.touch(session.id, now=session.expires_at, **asked)


def test_a_revoked_session_is_not_touched_and_not_revoked_again(work):
    session = make_session(work)
    ended = work.sessions.revoke(session.id, now=work.now, reason=RevokeReason.LOGOUT)
    assert [(session.id, session.user_id, session.token_hash)] == ended
    asked = {"now": work.now + MINUTE, "interval": MINUTE, "idle": HOUR}
    assert None is work.sessions.touch(session.id, **asked)
    assert [] == work.sessions.revoke(session.id, now=work.now, reason=RevokeReason.ADMIN)


def test_one_session_is_revoked_only_for_its_owner(work):
    session, other = make_session(work), make_user(work)
    asked = {"now": work.now, "reason": RevokeReason.USER}
    assert [] == work.sessions.revoke(session.id, user_id=other.id, **asked)
    assert 1 == len(work.sessions.revoke(session.id, user_id=session.user_id, **asked))


def test_all_sessions_but_one_are_revoked_and_that_one_goes_on_in_the_new_epoch(work):
    user = make_user(work)
    kept, *others = (make_session(work, user) for _ in range(3))
    epoch = work.users.bump_auth_epoch(user.id)
    ended = work.sessions.revoke_all(
        user.id, now=work.now, reason=RevokeReason.MFA, except_session=kept.id
    )
    assert {one.id for one in others} == {one.id for one in ended}
    assert [] == work.sessions.list_open(user.id, now=work.now)
    assert work.sessions.carry_over(kept.id, user_id=user.id, auth_epoch=epoch)
    assert [kept] == work.sessions.list_open(user.id, now=work.now)
    assert not work.sessions.carry_over(others[0].id, user_id=user.id, auth_epoch=epoch)


def test_a_family_is_revoked_whole_and_nothing_else(work):
    user = make_user(work)
    root = make_session(work, user)
    child = make_session(work, user, family_id=root.id)
    make_session(work, user)
    ended = work.sessions.revoke_family(user.id, root.id, now=work.now, reason=RevokeReason.REUSE)
    assert {root.id, child.id} == {one.id for one in ended}


def test_a_suspended_session_proves_nothing(work):
    session = make_session(work)
    assert session.token_hash == work.sessions.suspend(session.id)
    assert None is work.sessions.suspend(session.id)
    work.session.refresh(session)
    assert AssuranceLevel.NONE is session.level


def test_generations_never_repeat_even_when_a_restore_took_the_number_back(work):
    first = work.auth_state.next_generation(now=work.now, reason="restore")
    work.session.execute(text("UPDATE auth_state SET generation = 1"))
    later = work.now + timedelta(milliseconds=1)
    assert first < work.auth_state.next_generation(now=later, reason="restore")
    second = work.auth_state.next_generation(now=work.now, reason="clock went backwards")
    assert first + 2 == second


def test_what_redis_has_to_be_told_is_taken_once(work):
    work.session_invalidations.put([b"a" * 32, b"b" * 32], rotated=True)
    work.session_invalidations.put([], rotated=False)
    first, second = (work.session_invalidations.take(limit=1) for _ in range(2))
    assert [(b"a" * 32, True)] == [(row.token_hash, row.rotated) for row in first]
    assert [b"b" * 32] == [row.token_hash for row in second]
    assert [] == work.session_invalidations.take()


@pytest.fixture
def quiet_database_url():
    """A database on a server of its own.

    What one test's long transaction may still see is kept in the pages of all databases.
    """
    bindir = os.environ.get("ROOTSTREAM_TEST_POSTGRES_BINDIR")
    with throwaway_servers(bindir=Path(bindir) if bindir else None) as servers:
        schema.upgrade(servers.postgres.url())
        yield servers.postgres.url()


def test_touches_are_hot_updates(quiet_database_url, clock):
    with database_at(quiet_database_url, clock) as database:
        with database.transaction() as work:
            user = make_user(work)
            ids = [make_session(work, user).id for _ in range(50)]
        for _ in range(20):
            clock.advance(60)
            for one in ids:
                assert _touch(database, one)
    # The connections are closed, and with that their counts are in.
    with psycopg.connect(quiet_database_url) as connection:
        updates, hot = wait_for(
            lambda: connection.execute(
                "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables"
                " WHERE relname = 'sessions' AND n_tup_upd >= 1000"
            ).fetchone()
        )
    assert 1000 == updates
    assert 0.95 <= hot / updates


# all at once


def test_fifty_logins_at_once_leave_exactly_as_many_sessions_as_allowed(committed_database, user):
    def log_in(number):
        with committed_database.transaction() as work:
            return work.sessions.open(new_session(user, work.now)).outcome

    assert {"opened": 50} == Counter(together(50, log_in))
    assert 5 == len(open_ids(committed_database, user))


def test_of_many_rotations_of_one_session_one_succeeds(committed_database, user):
    with committed_database.transaction() as work:
        first = work.sessions.open(new_session(user, work.now)).session_id

    def rotate(number):
        with committed_database.transaction() as work:
            return work.sessions.open(new_session(user, work.now, replaces=first)).outcome

    assert {"opened": 1, "replaced": 19} == Counter(together(20, rotate))
    assert 1 == len(open_ids(committed_database, user))


@pytest.mark.parametrize("trial", range(10))
def test_no_login_that_saw_the_old_epoch_outlives_the_change(committed_database, user, trial):
    def act(number):
        with committed_database.transaction() as work:
            if number == trial:
                work.users.bump_auth_epoch(user.id)
                work.sessions.revoke_all(user.id, now=work.now, reason=RevokeReason.PASSWORD)
            else:
                work.sessions.open(new_session(user, work.now))

    together(12, act)
    assert [] == open_ids(committed_database, user)
    with committed_database.transaction() as work:
        left = work.session.scalar(
            text("SELECT count(*) FROM sessions WHERE revoked_at IS NULL AND user_id = :id"),
            {"id": user.id},
        )
    assert 0 == left


def test_a_touch_does_not_wait_for_a_session_that_somebody_holds(committed_database, user, clock):
    with committed_database.transaction() as work:
        session = make_session(work, user)
    clock.advance(120)
    with committed_database.transaction() as work:
        work.sessions.revoke(session.id, now=work.now, reason=RevokeReason.LOGOUT)
        with ThreadPoolExecutor(1) as pool:
            touched = pool.submit(_touch, committed_database, session.id).result(5)
    assert None is touched


def test_a_cleaner_leaves_a_session_that_is_being_extended(committed_database, user):
    with committed_database.transaction() as work:
        session = make_session(work, user, expires_at=work.now - MINUTE)
    with committed_database.transaction() as work:
        work.session.execute(
            text("UPDATE sessions SET expires_at = :then WHERE id = :id"),
            {"then": work.now + HOUR, "id": session.id},
        )
        with ThreadPoolExecutor(1) as pool:
            assert 0 == pool.submit(_clean, committed_database).result(5)
    assert 0 == _clean(committed_database)
    with committed_database.transaction() as work:
        assert None is not work.session.get(UserSession, session.id)


def _touch(database, session_id):
    with database.transaction() as work:
        return work.sessions.touch(session_id, now=work.now, interval=MINUTE, idle=HOUR)


def _clean(database):
    with database.transaction() as work:
        return work.sessions.delete_expired(work.now)
