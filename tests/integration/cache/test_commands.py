from __future__ import annotations

from datetime import timedelta

import pytest

from rootstream_db.cache import keys
from rootstream_db.cache.client import RedisCache
from rootstream_db.errors import ConflictError, StorageError, ValidationError
from rootstream_db.settings import CacheSettings

MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("value", "stored"), [("é", "é".encode()), (b"\xff", b"\xff"), (7, b"7"), (0.5, b"0.5")]
)
def test_a_value_comes_back_as_bytes(cache, value, stored):
    cache.set("k", value)
    assert stored == cache.get("k")


def test_a_missing_key_has_no_value(cache):
    assert cache.get("k") is None
    assert cache.get_json("k") is None
    assert not cache.exists("k")
    assert timedelta(0) == cache.ttl("k")


def test_json_comes_back_as_it_was(cache):
    cache.set_json("k", {"live": True, "fps": [59.94, None]})
    assert {"live": True, "fps": [59.94, None]} == cache.get_json("k")


def test_a_value_that_is_not_json_is_an_error_that_names_the_key(cache):
    cache.set("k", "{")
    with pytest.raises(StorageError, match="value of k is not JSON"):
        cache.get_json("k")


def test_a_key_of_the_table_brings_its_lifetime(cache):
    key = cache.key(keys.LIVE_STATUS, stream_id=7)
    cache.set_json(key, 1)
    assert timedelta(minutes=59) < cache.ttl(key) <= timedelta(hours=1)


def test_a_given_lifetime_wins_over_the_tables(cache):
    key = cache.key(keys.LIVE_STATUS, stream_id=7)
    cache.set(key, 1, ttl=MINUTE)
    assert timedelta(0) < cache.ttl(key) <= MINUTE
    cache.set(key, 1, ttl=None)
    assert cache.ttl(key) is None


def test_a_value_ends_with_its_lifetime(cache, eventually):
    cache.set("k", 1, ttl=timedelta(milliseconds=20))
    assert cache.exists("k")
    eventually(lambda: not cache.exists("k"))


def test_a_lifetime_below_a_millisecond_is_one_millisecond(cache, eventually):
    cache.set("k", 1, ttl=timedelta(microseconds=1))
    eventually(lambda: cache.get("k") is None)


def test_expire_sets_the_lifetime_of_what_exists(cache):
    cache.set("k", 1)
    assert cache.expire("k", MINUTE)
    assert timedelta(0) < cache.ttl("k") <= MINUTE
    assert not cache.expire("missing", MINUTE)


def test_delete_says_how_many_there_were(cache):
    cache.set("a", 1)
    cache.set("b", 1)
    assert 2 == cache.delete("a", "b", "c")
    assert 0 == cache.delete()


def test_a_value_that_could_pass_for_a_lease_is_refused(cache):
    for value in (b"\x00lease:x", "\x00"):
        with pytest.raises(ValidationError, match="NUL"):
            cache.set("k", value)


def test_an_unstorable_value_is_a_validation_error(cache):
    with pytest.raises(ValidationError, match="cannot store"):
        cache.set("k", object())


def test_increments_add_up(cache):
    assert [1, 6, 4] == [cache.increment("n"), cache.increment("n", 5), cache.increment("n", -2)]


def test_a_hash_holds_fields(cache):
    cache.set_field("h", "a", 1)
    cache.set_fields("h", {"b": "two", "c": b"3"})
    assert b"1" == cache.get_field("h", "a")
    assert cache.get_field("h", "z") is None
    assert {"a": b"1", "b": b"two", "c": b"3"} == cache.get_fields("h")
    assert 2 == cache.delete_field("h", "a", "b", "z")
    assert 0 == cache.delete_field("h")
    assert {"c": b"3"} == cache.get_fields("h")
    assert cache.exists("h")


def test_setting_no_fields_changes_nothing(cache):
    cache.set_fields("h", {})
    assert {} == cache.get_fields("h")
    assert not cache.exists("h")


def test_fields_and_lifetime_of_a_hash_are_set_together(cache):
    cache.set_fields("h", {"a": 1}, ttl=MINUTE)
    assert timedelta(0) < cache.ttl("h") <= MINUTE


def test_a_queue_gives_back_what_was_pushed_first(cache):
    assert 2 == cache.push("q", "a", "b")
    assert 3 == cache.push("q", "c")
    assert 3 == cache.push("q")
    assert [b"a", b"b", b"c", None] == [cache.pop("q") for _ in range(4)]
    assert 0 == cache.length("q")


def test_a_pipeline_runs_when_its_block_ends(cache):
    with cache.pipeline() as pipe:
        pipe.incrby("n", 2)
        pipe.incrby("n", 3)
        assert cache.get("n") is None
    assert b"5" == cache.get("n")


def test_a_pipeline_gives_its_replies_in_the_block(cache):
    with cache.pipeline() as pipe:
        pipe.set("a", 1)
        pipe.incr("a")
        assert [True, 2] == pipe.execute()


def test_a_failed_block_sends_nothing(cache):
    def fail():
        with cache.pipeline() as pipe:
            pipe.set("a", 1)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert cache.get("a") is None


def test_a_transaction_is_all_or_nothing(cache):
    """A command Redis cannot even queue makes it refuse the whole transaction."""

    def send():
        with cache.pipeline() as pipe:
            pipe.set("a", 1)
            pipe.execute_command("NOSUCHCOMMAND")

    with pytest.raises(StorageError):
        send()
    assert cache.get("a") is None


def test_a_watched_key_that_changed_is_a_conflict(cache):
    def send():
        with cache.pipeline() as pipe:
            pipe.watch("a")
            cache.set("a", "other")
            pipe.multi()
            pipe.set("a", "mine")

    with pytest.raises(ConflictError, match="watched"):
        send()
    assert b"other" == cache.get("a")


def test_a_script_runs_with_keys_and_arguments(cache):
    double = cache.script("return redis.call('INCRBY', KEYS[1], ARGV[1] * 2)")
    assert [4, 10] == [double(["n"], [2]), double(["n"], [3])]


@pytest.mark.parametrize("idempotent", [True, False])
def test_a_script_is_sent_in_full_to_a_server_that_forgot_it(cache, idempotent):
    script = cache.script("return ARGV[1]", idempotent=idempotent)
    script(args=["a"])
    cache.client.script_flush()
    assert b"b" == script(args=["b"])
    sha = cache.client.script_load("return ARGV[1]")
    assert [True] == cache.client.script_exists(sha)


def test_a_broken_script_is_a_storage_error(cache):
    with pytest.raises(StorageError, match="refused"):
        cache.script("this is not Lua")()


def test_a_command_on_the_wrong_type_is_an_error_but_no_outage(cache):
    cache.push("q", 1)
    with pytest.raises(StorageError, match="WRONGTYPE"):
        cache.get("q")
    assert cache.is_available


def test_ping_tells_latency_and_version(cache):
    ping = cache.ping()
    assert 0 < ping.latency_seconds < 2
    assert ping.server_version.startswith("valkey ")


def test_a_cache_is_usable_after_it_was_closed(redis_settings):
    with RedisCache(redis_settings, ttls=CacheSettings()) as cache:
        cache.set("k", 1)
    assert b"1" == cache.get("k")
    cache.close()


def test_neither_repr_nor_errors_show_the_password(fragile_server):
    settings = fragile_server.settings(password="hunter2")
    with RedisCache(settings, ttls=CacheSettings()) as cache:
        assert f"RedisCache({fragile_server.socket})" == repr(cache)


def test_another_prefix_is_another_world(redis_settings, cache):
    settings = redis_settings.model_copy(update={"key_prefix": "other"})
    with RedisCache(settings, ttls=CacheSettings()) as other:
        cache.set(cache.key(keys.USER, user_id=1), "a")
        assert other.get(other.key(keys.USER, user_id=1)) is None
