"""What was taken away is gone everywhere at once, whatever dies, races, lies or is late."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from datetime import timedelta
from unittest import mock

import psycopg
import pytest
import redis

from rootstream_db.cache.keys import ACCESS_ROLES, ACCESS_USER
from rootstream_db.errors import DatabaseUnavailableError
from rootstream_db.rootstream import RootStream
from rootstream_db.services.access.fence import Entry, FencedCache
from rootstream_db.testing import EPOCH, settings_for
from tests.factories import make_user
from tests.fixtures.doom import count_steps, fork_doomed, was_killed
from tests.fixtures.redis_process import RedisProcess

BAN = "chat.ban"
TTL = timedelta(seconds=60)


@pytest.fixture
def moderator(user, grant):
    grant(user, "moderator")
    return user


@pytest.fixture
def raw(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        yield client


@contextmanager
def statements():
    """Collect what PostgreSQL is asked inside the block."""
    asked = []
    execute = psycopg.Cursor.execute

    def watched(cursor, query, *arguments, **options):
        asked.append(str(query))
        return execute(cursor, query, *arguments, **options)

    with mock.patch.object(psycopg.Cursor, "execute", watched):
        yield asked


def user_key(rootstream, user):
    return rootstream.cache.key(ACCESS_USER, user_id=user.id)


def test_while_nothing_changes_postgresql_is_not_asked(access, other, moderator):
    access.require(moderator, BAN)
    other.access.require(moderator, BAN)

    with statements() as asked:
        access.require(moderator, BAN)
        other.access.require(moderator, BAN)
        assert not access.can(moderator, "stream.create")

    assert [] == asked


def test_what_is_taken_away_is_gone_in_every_process_with_the_commit(
    access, other, moderator, revoke
):
    for reader in (access, other.access):
        reader.require(moderator, BAN)

    change = revoke(moderator, "moderator")

    assert change.immediate
    assert [False, False] == [reader.can(moderator, BAN) for reader in (access, other.access)]


def test_what_is_given_is_there_in_every_process_with_the_commit(access, other, user, grant):
    assert not other.access.can(user, BAN)
    grant(user, "moderator")
    other.access.require(user, BAN)


def test_before_the_commit_everything_is_as_it_was(rootstream, access, other, moderator):
    access.require(moderator, BAN)
    with rootstream.transaction() as work:
        access.revoke_grant(work, moderator, "moderator")
        other.access.require(moderator, BAN)
        work.prepare_commit()
        # The floor is there, the commit is not: readers ask PostgreSQL and may not keep it.
        other.access.require(moderator, BAN)
        with statements() as asked:
            other.access.require(moderator, BAN)
        assert asked
    assert not other.access.can(moderator, BAN)


def test_what_was_read_before_a_change_is_not_kept_after_it(
    rootstream, other, access, moderator, revoke
):
    """The stale fill: a reader is slow between PostgreSQL and Redis."""
    reached, go_on = threading.Event(), threading.Event()
    fill = FencedCache.fill

    def slow(fence, key, entry):
        reached.set()
        assert go_on.wait(10)
        kept.append(fill(fence, key, entry))

    kept: list[bool] = []
    with mock.patch.object(FencedCache, "fill", slow):
        reader = threading.Thread(target=other.access.can, args=(moderator, BAN))
        reader.start()
        assert reached.wait(10)
        revoke(moderator, "moderator")
        go_on.set()
        reader.join()

    assert False is kept[0]
    assert not access.can(moderator, BAN)
    assert not other.access.can(moderator, BAN)


def test_no_reader_in_a_crowd_sees_what_was_taken_away(
    rootstream, other, access, moderator, grant, revoke
):
    stop = threading.Event()

    def ask(reader):
        while not stop.is_set():
            reader.can(moderator, BAN)

    readers = [threading.Thread(target=ask, args=(one,)) for one in (access, other.access) * 2]
    for reader in readers:
        reader.start()
    try:
        resurrected = 0
        for _ in range(60):
            revoke(moderator, "moderator")
            resurrected += any(one.can(moderator, BAN) for one in (access, other.access) * 3)
            grant(moderator, "moderator")
            access.require(moderator, BAN)
    finally:
        stop.set()
        for reader in readers:
            reader.join()

    assert 0 == resurrected


def test_without_redis_postgresql_answers_at_once(clean_database_url, clock, user, grant, revoke):
    nowhere = settings_for(clean_database_url, "redis://127.0.0.1:1")
    with RootStream(nowhere, clock=clock) as alone:
        assert not alone.access.can(user, BAN)
        with alone.transaction() as work:
            alone.access.grant(work, user, "moderator")
        alone.access.require(user, BAN)
        with alone.transaction() as work:
            change = alone.access.revoke_grant(work, user, "moderator")
        assert not alone.access.can(user, BAN)

    assert (False, EPOCH + TTL) == (change.immediate, change.effective_by)


def test_where_redis_could_not_be_told_a_value_is_believed_until_it_is_a_minute_old(
    clean_database_url, clock, other, moderator
):
    other.access.require(moderator, BAN)
    with (
        RootStream(settings_for(clean_database_url, "redis://127.0.0.1:1"), clock=clock) as cut_off,
        cut_off.transaction() as work,
    ):
        change = cut_off.access.revoke_grant(work, moderator, "moderator")

    clock.advance(TTL.total_seconds())
    other.access.require(moderator, BAN)
    clock.advance(0.000001)
    assert not other.access.can(moderator, BAN)
    assert change.effective_by == EPOCH + TTL


def test_a_redis_that_was_killed_frozen_or_flushed_changes_no_answer(
    clean_database_url, clock, moderator, revoke, grant
):
    server = RedisProcess().start()
    settings = settings_for(clean_database_url, server.url)
    try:
        with RootStream(
            settings.model_copy(update={"redis": server.settings(socket_timeout=0.2, retries=0)}),
            clock=clock,
        ) as reader:
            reader.access.require(moderator, BAN)
            reader.cache.client.flushall()
            reader.access.require(moderator, BAN)
            server.freeze()
            reader.access.require(moderator, BAN)
            with reader.transaction() as work:
                change = reader.access.revoke_grant(work, moderator, "moderator")
            assert not reader.access.can(moderator, BAN)
            server.thaw()
            reader.cache.ping()
            assert not reader.access.can(moderator, BAN)
            server.kill()
            assert not reader.access.can(moderator, BAN)
            grant(moderator, "moderator")
            reader.access.require(moderator, BAN)
    finally:
        server.remove()
    assert not change.immediate


def test_without_postgresql_answers_last_a_minute_and_then_there_are_none(
    rootstream, access, moderator, clock
):
    access.require(moderator, BAN)
    with mock.patch.object(
        type(rootstream.database), "read", side_effect=DatabaseUnavailableError("down")
    ):
        access.require(moderator, BAN)
        clock.advance(TTL.total_seconds() + 1)
        with pytest.raises(DatabaseUnavailableError):
            access.can(moderator, BAN)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_killed_anywhere_in_a_change_leaves_cache_and_database_agreed(
    rootstream, other, moderator, grant
):
    def take():
        with rootstream.transaction() as work:
            rootstream.access.revoke_grant(work, moderator, "moderator")

    steps = count_steps(take)
    outcomes = set()
    for step in range(1, 2 * steps):
        with rootstream.transaction() as work:
            if not work.role_grants.list_of_user(moderator.id):
                rootstream.access.grant(work, moderator, "moderator")
        other.access.require(moderator, BAN)
        # The child opens connections of its own: the parent's are not its.
        killed = was_killed(fork_doomed(take, at=step))
        with rootstream.database.read() as work:
            has_it = bool(work.role_grants.list_of_user(moderator.id))
        assert has_it is other.access.can(moderator, BAN)
        outcomes.add((killed, has_it))

    assert {(True, True), (True, False)} <= outcomes


def test_after_a_change_that_died_the_next_one_counts_at_once(
    rootstream, access, other, moderator, revoke
):
    with pytest.raises(RuntimeError), rootstream.transaction() as work:
        access.revoke_grant(work, moderator, "moderator")
        work.prepare_commit()
        raise RuntimeError
    other.access.require(moderator, BAN)

    revoke(moderator, "moderator")

    assert not other.access.can(moderator, BAN)
    with statements() as asked:
        assert not other.access.can(moderator, BAN)
    assert [] == asked


def test_what_a_restore_cut_off_does_not_keep_a_later_change_from_counting(
    rootstream, cache, clock, access, moderator, revoke
):
    """The database is back at an earlier version than the one Redis has a value of."""
    access.require(moderator, BAN)
    security = rootstream.settings.security
    fence = FencedCache(cache, security.peppers(), writer=1, clock=clock, max_stale=TTL)
    key = user_key(rootstream, moderator)
    (held,) = fence.get(key)
    assert held is not None
    fence.fill(key, Entry(held.version + 100, held.as_of, held.payload))

    revoke(moderator, "moderator")

    assert not access.can(moderator, BAN)


def test_changes_of_one_account_at_once_get_versions_of_their_own(rootstream, access, user, stream):
    roles = ["viewer", "moderator", "streamer", "owner", "admin"]
    barrier = threading.Barrier(len(roles))

    def give(role):
        barrier.wait()
        with rootstream.transaction() as work:
            access.grant(work, user, role, stream=stream)

    threads = [threading.Thread(target=give, args=(role,)) for role in roles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with rootstream.database.read() as work:
        assert len(roles) == work.access.load(user.id, EPOCH).version
    access.require(user, "access.manage", stream_id=stream.id)


def test_a_forged_value_is_not_believed_and_does_not_stay(
    rootstream, access, user, moderator, raw, caplog
):
    access.require(moderator, BAN)
    key = user_key(rootstream, moderator)
    genuine = raw.get(key)
    admin = b"[[5,null,null]]"
    for forged in (
        genuine[:-1] + b" ",
        genuine[:53] + admin,
        b"%020d" % 99 + genuine[20:],
        genuine[:30],
        b"%020dE" % 0,
    ):
        raw.set(key, forged)
        assert not access.can(moderator, "access.manage")
        access.require(moderator, BAN)
        assert forged != raw.get(key)
    assert "was not made by this package" in caplog.text
    assert genuine[53:] == raw.get(key)[53:]


@pytest.mark.parametrize("value", [b"", b"nonsense", b"9" * 20, b"9" * 300, b"\xff" * 60])
def test_garbage_is_replaced_or_ignored(rootstream, access, moderator, raw, value):
    raw.set(user_key(rootstream, moderator), value)
    raw.set(rootstream.cache.key(ACCESS_ROLES), value)

    access.require(moderator, BAN)
    assert not access.can(moderator, "access.manage")


def test_the_value_of_one_account_is_none_for_another(rootstream, access, user, grant, raw):
    with rootstream.transaction() as work:
        boss = make_user(work)
    grant(boss, "admin")
    access.require(boss, "access.manage")

    raw.set(user_key(rootstream, user), raw.get(user_key(rootstream, boss)))

    assert not access.can(user, "access.manage")
