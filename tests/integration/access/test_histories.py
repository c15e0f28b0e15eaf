"""Changes that were rolled back, and databases that went back, leave nothing in force."""

from __future__ import annotations

import redis
from sqlalchemy import text

from rootstream_db.cache.keys import ACCESS_USER
from rootstream_db.services.access.fence import FLOOR_GRACE, Entry, FencedCache
from rootstream_db.testing import EPOCH
from tests.integration.access.test_fence import PEPPER, TTL

BAN = "chat.ban"


def test_a_floor_of_a_change_that_was_rolled_back_lasts_for_the_next_one(cache, clock, redis_url):
    fence = FencedCache(cache, {1: PEPPER}, writer=1, clock=clock, max_stale=TTL)
    key = cache.key(ACCESS_USER, user_id=1)
    life = (TTL + FLOOR_GRACE).total_seconds() * 1000
    assert fence.raise_floors({key: 6})
    with redis.Redis.from_url(redis_url) as raw:
        raw.pexpire(key, 1000)
        # The same version again, because the first change did not happen; or a lower one.
        for version in (6, 5):
            raw.pexpire(key, 1000)
            assert fence.raise_floors({key: version})
            assert life / 2 < raw.pttl(key) <= life
    assert not fence.fill(key, Entry(5, EPOCH, b"old"))


def test_roles_of_a_history_that_was_cut_off_count_for_nobody(
    rootstream, access, user, grant, clock, redis_url
):
    """A process that lives through a restore never takes one history's roles for the other's."""
    grant(user, "viewer")
    with rootstream.transaction() as work:
        access.set_permissions(work, "viewer", [BAN])
        before = work.roles.load().generation
    access.require(user, BAN)
    clock.advance(60)
    with rootstream.transaction() as work:
        # As the database was before that change, and Redis has forgotten it.
        work.session.execute(text("UPDATE access_state SET generation = :g"), {"g": before})
        work.roles.replace_permissions(work.roles.get_one_by_name("viewer").id, ["chat.read"])
    with redis.Redis.from_url(redis_url) as raw:
        raw.flushdb()
    with rootstream.transaction() as work:
        access.set_permissions(work, "viewer", ["chat.write"])
    assert not access.can(user, BAN)
    access.require(user, "chat.write")
