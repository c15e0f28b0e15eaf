"""Versions, floors and ages of cached values, one by one."""

from __future__ import annotations

from datetime import timedelta

import pytest
import redis

from rootstream_db.cache.keys import ACCESS_USER
from rootstream_db.services.access.fence import FLOOR_GRACE, Entry, FencedCache
from rootstream_db.testing import EPOCH

TTL = timedelta(seconds=60)
PEPPER = b"p" * 32


@pytest.fixture
def raw(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def fence(cache, clock):
    return FencedCache(cache, {1: PEPPER}, writer=1, clock=clock, max_stale=TTL)


def test_values_live_under_every_pepper_that_is_known(cache, clock):
    key = cache.key(ACCESS_USER, user_id=1)
    old = FencedCache(cache, {1: PEPPER}, writer=1, clock=clock, max_stale=TTL)
    both = FencedCache(cache, {1: PEPPER, 2: b"q" * 32}, writer=2, clock=clock, max_stale=TTL)
    entry = Entry(1, EPOCH, b"[]")

    assert old.fill(key, entry)
    assert [entry] == both.get(key)
    assert both.fill(key, entry)
    assert [entry] == both.get(key)
    assert [None] == old.get(key)


def test_a_floor_refuses_older_values_and_takes_its_own(fence, cache, raw):
    key = cache.key(ACCESS_USER, user_id=1)

    assert fence.raise_floors({key: 5})
    assert not fence.fill(key, Entry(4, EPOCH, b"old"))
    assert [None] == fence.get(key)
    assert fence.fill(key, Entry(5, EPOCH, b"new"))
    assert [Entry(5, EPOCH, b"new")] == fence.get(key)
    assert fence.raise_floors({key: 6})
    assert [None] == fence.get(key)
    assert fence.raise_floors({key: 4})
    assert not fence.fill(key, Entry(5, EPOCH, b"new"))
    assert 0 < raw.pttl(key) <= (TTL + FLOOR_GRACE).total_seconds() * 1000


def test_a_value_dies_of_age_in_redis_and_by_its_own_account(fence, cache, raw, clock):
    key = cache.key(ACCESS_USER, user_id=1)
    fence.fill(key, Entry(1, EPOCH, b"[]"))
    assert 0 < raw.pttl(key) <= TTL.total_seconds() * 1000

    clock.advance(TTL.total_seconds())
    assert [Entry(1, EPOCH, b"[]")] == fence.get(key)
    clock.advance(0.001)
    assert [None] == fence.get(key)


def test_versions_compare_as_numbers(fence, cache):
    key = cache.key(ACCESS_USER, user_id=1)

    fence.raise_floors({key: 9})
    assert fence.fill(key, Entry(10, EPOCH, b"[]"))
    assert not fence.fill(key, Entry(9, EPOCH, b"[]"))
    fence.raise_floors({key: 2**63 - 1})
    assert not fence.fill(key, Entry(2**63 - 2, EPOCH, b"[]"))
