"""The limiter on a real Redis: what callers see, races, outages."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import timedelta

import pytest
from pydantic import SecretStr

from rootstream_db.cache import RedisCache
from rootstream_db.errors import CacheUnavailableError, RateLimitedError, ValidationError
from rootstream_db.services.rate_limits import Block, Limit, RateLimiter, WhenDown
from rootstream_db.settings import CacheSettings, RedisSettings
from rootstream_db.testing import EPOCH, FrozenClock
from tests.fixtures.redis_process import RedisProcess

SPAWN = multiprocessing.get_context("spawn")
MINUTE = timedelta(minutes=1)
FIVE = Limit(name="login", rate=5, per=MINUTE)
STRICT = Limit(
    name="strict", rate=5, per=MINUTE, block=Block(after=2, within=MINUTE, base=MINUTE * 15)
)


@pytest.fixture
def limits(cache, clock) -> RateLimiter:
    return RateLimiter(cache, clock=clock)


def allowed(limits: RateLimiter, limit: Limit, times: int, key: str = "alice") -> int:
    return sum(limits.decide(key, limit).allowed for _ in range(times))


def test_the_first_calls_pass_and_the_next_says_when_to_come_back(limits, clock):
    assert [4, 3, 2, 1, 0] == [limits.check("alice", FIVE).remaining for _ in range(5)]
    with pytest.raises(
        RateLimitedError, match="login is asked too often: try again in 12 s"
    ) as is_:
        limits.check("alice", FIVE)
    assert 12.0 == is_.value.retry_after
    clock.advance(12)
    assert limits.check("alice", FIVE).allowed


def test_keys_and_limits_are_counted_apart(limits):
    other = Limit(name="search", rate=1, per=MINUTE)
    assert 5 == allowed(limits, FIVE, 6)
    assert 5 == allowed(limits, FIVE, 6, key="bob")
    assert 1 == allowed(limits, other, 6)


@pytest.mark.parametrize("key", ["", None, 7])
def test_a_key_must_be_text(limits, key):
    with pytest.raises(ValidationError, match="needs the key"):
        limits.check(key, FIVE)


@pytest.mark.parametrize("key", ["a:b", "{tag}", "*", "é\0\ud800", "x" * 100_000])
def test_any_text_is_a_key_of_its_own(limits, key):
    assert 5 == allowed(limits, FIVE, 6, key=key)


@pytest.mark.parametrize("cost", [0, -1, 6, 1.5, True])
def test_a_cost_that_never_fits_is_refused(limits, cost):
    with pytest.raises(ValidationError):
        limits.check("alice", FIVE, cost=cost)


def test_excess_blocks_for_longer_each_time_and_a_block_ends(limits, clock):
    assert 5 == allowed(limits, STRICT, 6)
    started = limits.decide("alice", STRICT)
    assert (True, True, timedelta(minutes=15)) == (
        started.blocked,
        started.block_started,
        started.retry_after,
    )
    clock.advance(MINUTE * 15 - timedelta(microseconds=1))
    with pytest.raises(RateLimitedError, match="strict is blocked"):
        limits.check("alice", STRICT)
    clock.advance(timedelta(microseconds=1))
    assert 5 == allowed(limits, STRICT, 6)
    assert timedelta(minutes=30) == limits.decide("alice", STRICT).retry_after


def test_somebody_can_be_blocked_and_forgiven(limits):
    assert [15, 30] == [limits.block("alice", STRICT).total_seconds() // 60 for _ in range(2)]
    assert not limits.decide("alice", STRICT).allowed
    limits.forgive("alice", STRICT)
    assert limits.check("alice", STRICT).allowed
    with pytest.raises(ValidationError, match="has no block"):
        limits.block("alice", FIVE)


def test_what_is_given_back_can_be_spent_again(limits):
    assert 5 == allowed(limits, FIVE, 5)
    limits.give_back("alice", FIVE, cost=2)
    assert 2 == allowed(limits, FIVE, 3)


def test_a_key_is_gone_from_redis_when_it_says_nothing_more(limits, cache, clock):
    key = "rs:limit:login:alice"
    limits.check("alice", FIVE)
    assert timedelta(seconds=12) < cache.ttl(key) <= timedelta(seconds=22)
    limits.give_back("alice", FIVE)
    assert timedelta(0) < cache.ttl(key) <= timedelta(seconds=10)


def test_fifty_threads_get_exactly_what_the_limit_allows(limits):
    with ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(lambda _: limits.decide("alice", FIVE), range(500)))
    assert 5 == sum(answer.allowed for answer in answers)


def test_fifty_threads_start_one_block(limits):
    with ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(lambda _: limits.decide("alice", STRICT), range(200)))
    assert (5, 1) == (
        sum(answer.allowed for answer in answers),
        sum(answer.block_started for answer in answers),
    )


def hammer(url: str) -> int:
    with RedisCache(RedisSettings(url=SecretStr(url)), ttls=CacheSettings()) as cache:
        return allowed(RateLimiter(cache, clock=FrozenClock(EPOCH)), FIVE, 50)


def test_processes_share_one_count(redis_url):
    with ProcessPoolExecutor(4, SPAWN) as processes:
        assert 5 == sum(processes.map(hammer, [redis_url] * 8))


class TestWithoutRedis:
    @pytest.fixture
    def lonely(self, clock):
        nowhere = RedisSettings(url=SecretStr("redis://127.0.0.1:1"))
        with RedisCache(nowhere, ttls=CacheSettings()) as cache:
            yield RateLimiter(cache, clock=clock)

    def when_down(self, policy: WhenDown) -> Limit:
        return Limit(name="login", rate=5, per=MINUTE, when_down=policy)

    def test_a_limit_that_allows_lets_everything_through(self, lonely):
        limit = self.when_down(WhenDown.ALLOW)
        assert 50 == allowed(lonely, limit, 50)
        assert lonely.check("alice", limit).degraded

    def test_a_limit_that_refuses_says_that_redis_is_down(self, lonely):
        with pytest.raises(CacheUnavailableError):
            lonely.check("alice", self.when_down(WhenDown.REFUSE))

    def test_a_local_limit_goes_on_for_this_process(self, lonely, clock):
        limit = self.when_down(WhenDown.LOCAL)
        with ThreadPoolExecutor(20) as threads:
            answers = list(threads.map(lambda _: lonely.decide("alice", limit), range(100)))
        assert 5 == sum(answer.allowed for answer in answers)
        assert all(answer.degraded for answer in answers)
        clock.advance(12)
        assert 1 == allowed(lonely, limit, 5)

    def test_giving_back_asks_nothing_of_anybody(self, lonely):
        lonely.give_back("alice", FIVE)

    def test_a_block_is_not_taken_for_done(self, lonely):
        with pytest.raises(CacheUnavailableError):
            lonely.block("alice", STRICT)

    def test_redis_counts_again_when_it_is_back(self, clock):
        server = RedisProcess().start()
        try:
            with RedisCache(server.settings(socket_timeout=0.5), ttls=CacheSettings()) as cache:
                limits = RateLimiter(cache, clock=clock)
                assert not limits.check("alice", FIVE).degraded
                server.kill()
                assert limits.check("alice", FIVE).degraded
                server.start()
                cache.ping()
                assert not limits.check("alice", FIVE).degraded
        finally:
            server.remove()
