from __future__ import annotations

import multiprocessing
import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta

import orjson
import pytest

from rootstream_db.cache import keys, read_through
from rootstream_db.cache.client import RedisCache
from rootstream_db.cache.read_through import is_lease
from rootstream_db.errors import StorageError
from rootstream_db.settings import CacheSettings

MINUTE = timedelta(minutes=1)
fork = multiprocessing.get_context("fork")


@pytest.fixture
def other(redis_settings):
    """The cache of somebody else, with connections of its own."""
    with RedisCache(redis_settings, ttls=CacheSettings()) as cache:
        yield cache


@pytest.fixture
def short_lease(monkeypatch):
    monkeypatch.setattr(read_through, "LEASE_SECONDS", 0.2)
    monkeypatch.setattr(read_through, "LONGEST_WAIT_SECONDS", 0.6)


class Loader:
    """Counts its calls; holds them up until told to go on."""

    def __init__(self, value):
        self.value = value
        self.calls = 0
        self.started = threading.Event()
        self.may_finish = threading.Event()
        self.may_finish.set()

    def __call__(self):
        self.calls += 1
        self.started.set()
        assert self.may_finish.wait(10)
        return self.value


def test_a_missing_value_is_loaded_once_and_kept(cache):
    load = Loader({"name": "Speedrun"})
    assert [{"name": "Speedrun"}] * 3 == [cache.read_through("k", load, MINUTE) for _ in range(3)]
    assert 1 == load.calls
    assert (2, 1) == (cache.stats().hits, cache.stats().loads)


def test_a_kept_value_has_its_lifetime(cache):
    key = cache.key(keys.USER, user_id=7)
    cache.read_through(key, Loader(1))
    assert timedelta(minutes=4) < cache.ttl(key) <= timedelta(minutes=5)
    cache.read_through("other", Loader(1), MINUTE)
    assert timedelta(0) < cache.ttl("other") <= MINUTE
    cache.read_through("for ever", Loader(1), None)
    assert cache.ttl("for ever") is None


def test_loaded_and_cached_values_have_the_same_shape(cache):
    def load():
        return {"tags": ("a", "b")}

    assert [{"tags": ["a", "b"]}] * 2 == [cache.read_through("k", load, MINUTE) for _ in range(2)]


def test_an_absence_is_asked_for_again(cache):
    load = Loader(None)
    assert [None, None] == [cache.read_through("k", load, MINUTE) for _ in range(2)]
    assert 2 == load.calls
    assert not cache.exists("k")


def test_an_absence_is_remembered_when_asked_to(cache):
    load = Loader(None)
    for _ in range(3):
        assert cache.read_through("k", load, MINUTE, negative_ttl=timedelta(seconds=9)) is None
    assert 1 == load.calls
    assert timedelta(0) < cache.ttl("k") <= timedelta(seconds=9)


def test_an_exception_is_raised_and_not_kept(cache):
    def fail():
        raise LookupError("no such stream")

    with pytest.raises(LookupError, match="no such stream"):
        cache.read_through("k", fail, MINUTE)
    assert cache.client.get("k") is None
    assert 1 == cache.read_through("k", Loader(1), MINUTE)


def test_a_value_that_json_cannot_hold_is_the_callers_error_and_releases_the_key(cache):
    with pytest.raises(TypeError):
        cache.read_through("k", object, MINUTE)
    assert cache.client.get("k") is None


def test_one_of_32_threads_loads(cache):
    load = Loader(42)
    load.may_finish.clear()
    with ThreadPoolExecutor(32) as pool:
        answers = [pool.submit(cache.read_through, "k", load, MINUTE) for _ in range(32)]
        assert load.started.wait(10)
        load.may_finish.set()
        assert [42] * 32 == [answer.result(10) for answer in answers]
    assert 1 == load.calls
    assert (1, 31) == (cache.stats().loads, cache.stats().hits)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_one_of_8_processes_loads(cache):
    def load():
        cache.increment("loads")
        time.sleep(0.05)  # the work that must not be done eight times
        return 42

    def work(gate, answers):
        gate.wait(10)
        answers.put(cache.read_through("k", load, MINUTE))

    gate, answers = fork.Barrier(8), fork.SimpleQueue()
    workers = [fork.Process(target=work, args=(gate, answers)) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    assert [42] * 8 == [answers.get() for _ in workers]
    assert b"1" == cache.get("loads")


def test_the_lease_of_a_loader_is_no_value(cache, other):
    load = Loader(1)
    load.may_finish.clear()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(cache.read_through, "k", load, MINUTE)
        assert load.started.wait(10)
        assert is_lease(other.client.get("k"))
        assert other.get("k") is None
        assert other.get_json("k") is None
        assert not other.exists("k")
        load.may_finish.set()
        assert 1 == answer.result(10)
    assert b"1" == other.get("k")


def test_a_key_deleted_while_it_is_loaded_does_not_keep_the_stale_value(cache, other):
    def load_then_lose_the_race():
        stale = "old"
        other.delete("k")  # a writer committed after our read, and before our store
        return stale

    assert "old" == cache.read_through("k", load_then_lose_the_race, MINUTE)
    assert 1 == cache.stats().stores_refused
    assert "new" == other.read_through("k", Loader("new"), MINUTE)


def test_a_key_set_while_it_is_loaded_keeps_the_written_value(cache, other):
    def load_then_lose_the_race():
        other.set_json("k", "new", ttl=MINUTE)
        return "old"

    assert "old" == cache.read_through("k", load_then_lose_the_race, MINUTE)
    assert "new" == cache.get_json("k")


def test_a_slow_stale_loader_does_not_overwrite_a_later_fresh_one(cache, other):
    def load_old():
        other.invalidate("k")
        assert "new" == other.read_through("k", lambda: "new", MINUTE)
        return "old"

    assert "old" == cache.read_through("k", load_old, MINUTE)
    assert "new" == cache.get_json("k")


def test_a_slow_stale_loader_does_not_store_while_a_fresh_one_loads(cache, other):
    def load_old():
        other.invalidate("k")
        fresh.may_finish.clear()
        answers.append(pool.submit(other.read_through, "k", fresh, MINUTE))
        assert fresh.started.wait(10)
        return "old"

    fresh = Loader("new")
    answers: list[Future] = []
    with ThreadPoolExecutor(1) as pool:
        assert "old" == cache.read_through("k", load_old, MINUTE)
        assert cache.get("k") is None
        fresh.may_finish.set()
        assert "new" == answers[0].result(10)
    assert "new" == cache.get_json("k")


def test_whoever_wrote_reads_their_own_write_though_an_old_load_goes_on(cache):
    """A caller must not be served by a load that began before the caller's write."""
    old, new = Loader("old"), Loader("new")
    old.may_finish.clear()
    with ThreadPoolExecutor(1) as pool:
        stale = pool.submit(cache.read_through, "k", old, MINUTE)
        assert old.started.wait(10)
        cache.invalidate("k")
        assert "new" == cache.read_through("k", new, MINUTE)
        old.may_finish.set()
        assert "old" == stale.result(10)
    assert "new" == cache.get_json("k")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.usefixtures("short_lease")
def test_a_loader_that_dies_delays_others_for_a_bounded_time(cache):
    worker = fork.Process(target=cache.read_through, args=("k", lambda: os._exit(9), MINUTE))
    worker.start()
    worker.join(20)
    assert 9 == worker.exitcode
    assert is_lease(cache.client.get("k"))
    started = time.monotonic()
    assert 1 == cache.read_through("k", Loader(1), MINUTE)
    assert 2 > time.monotonic() - started
    assert b"1" == cache.get("k")


@pytest.mark.usefixtures("short_lease")
def test_who_has_waited_long_enough_loads_without_storing(cache, other, monkeypatch):
    cache.client.set("k", read_through.LEASE_MARK + b"somebody")
    started = time.monotonic()
    assert 1 == cache.read_through("k", Loader(1), MINUTE)
    assert 0.6 <= time.monotonic() - started < 4
    assert 1 == cache.stats().wait_timeouts
    assert other.get("k") is None


@pytest.mark.usefixtures("short_lease")
def test_a_loader_slower_than_its_lease_does_not_store(cache, other):
    def load():
        other.client.delete("k")  # what the lease's expiry does
        return 1

    assert 1 == cache.read_through("k", load, MINUTE)
    assert other.client.get("k") is None


def test_a_cached_value_that_is_not_json_is_dropped_and_loaded(cache, cache_log):
    cache.set("k", "{")
    assert 1 == cache.read_through("k", Loader(1), MINUTE)
    assert ["the cached value of k is not JSON; it was dropped"] == cache_log("JSON")
    assert 2 == cache.read_through("k", Loader(2), MINUTE)
    assert b"2" == cache.get("k")


def test_a_key_of_another_type_is_an_error(cache):
    cache.push("k", 1)
    with pytest.raises(StorageError, match="WRONGTYPE"):
        cache.read_through("k", Loader(1), MINUTE)


def test_threads_with_invalidations_never_read_a_value_older_than_their_own_write(cache, other):
    """What a caller committed and invalidated before its read is what it reads, or newer."""
    source = [0]
    lock = threading.Lock()

    def write_then_read(reader):
        for _ in range(40):
            with lock:
                source[0] += 1
                written = source[0]
            reader.invalidate("k")
            assert written <= reader.read_through("k", lambda: source[0], MINUTE)

    with ThreadPoolExecutor(8) as pool:
        for work in [pool.submit(write_then_read, (cache, other)[i % 2]) for i in range(8)]:
            work.result(30)
    assert source[0] == orjson.loads(cache.client.get("k") or b"%d" % source[0])
