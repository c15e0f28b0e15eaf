from __future__ import annotations

import gc
import multiprocessing
import threading
import time
from datetime import UTC, datetime

import pytest
import redis

from rootstream_db.cache import listener, pubsub
from rootstream_db.cache.pubsub import EventBus
from rootstream_db.errors import CacheUnavailableError, StorageError, ValidationError

fork = multiprocessing.get_context("fork")


class Inbox:
    """A handler that keeps what it got."""

    def __init__(self):
        self.messages = []

    def __call__(self, topic, payload):
        self.messages.append((topic, payload))


@pytest.fixture
def inbox():
    return Inbox()


@pytest.fixture
def raw(steady_server):
    with redis.Redis.from_url(steady_server.url) as client:
        yield client


def test_a_message_reaches_the_handler_of_its_topic(bus, inbox, eventually):
    bus.subscribe("stream.7.started", inbox)
    assert 1 == bus.publish("stream.7.started", {"epoch": 3})
    assert 0 == bus.publish("stream.8.started", {"epoch": 4})
    eventually(lambda: inbox.messages)
    assert [("stream.7.started", {"epoch": 3})] == inbox.messages


def test_messages_arrive_in_the_order_they_were_sent(bus, inbox, eventually):
    bus.subscribe("t", inbox)
    for number in range(500):
        bus.publish("t", {"n": number})
    eventually(lambda: 500 == len(inbox.messages))
    assert list(range(500)) == [payload["n"] for _, payload in inbox.messages]
    assert (500, 500) == (bus.stats().published, bus.stats().received)


def test_a_pattern_gets_every_topic_that_matches(bus, inbox, eventually):
    bus.psubscribe("stream.*.started", inbox)
    bus.publish("stream.1.started", {})
    bus.publish("stream.1.stopped", {})
    bus.publish("stream.2.started", {})
    eventually(lambda: 2 == len(inbox.messages))
    assert ["stream.1.started", "stream.2.started"] == [topic for topic, _ in inbox.messages]


def test_a_topic_of_stars_is_refused_and_so_is_any_odd_text(bus, inbox):
    for topic in ("", "a b", "a*", "a\n", "ü", "x" * 201):
        with pytest.raises(ValidationError, match="not a topic"):
            bus.publish(topic, {})
        with pytest.raises(ValidationError, match="not a topic"):
            bus.subscribe(topic, inbox)
    with pytest.raises(ValidationError, match="not a topic"):
        bus.psubscribe("a b*", inbox)


def test_values_json_knows_more_of_are_sent_as_text(bus, inbox, eventually):
    bus.subscribe("t", inbox)
    bus.publish("t", {"at": datetime(2026, 1, 2, tzinfo=UTC)})
    eventually(lambda: inbox.messages)
    assert {"at": "2026-01-02T00:00:00+00:00"} == inbox.messages[0][1]


def test_all_handlers_of_a_topic_are_called(bus, eventually):
    one, other = Inbox(), Inbox()
    bus.subscribe("t", one)
    bus.subscribe("t", other)
    bus.publish("t", {"n": 1})
    eventually(lambda: one.messages and other.messages)


def test_what_a_handler_raises_is_counted_logged_and_harms_no_other(
    bus, inbox, eventually, cache_log
):
    def fail(topic, payload):
        raise KeyError(topic)

    bus.subscribe("t", fail)
    bus.subscribe("t", inbox)
    bus.publish("t", {"n": 1})
    bus.publish("t", {"n": 2})
    eventually(lambda: 2 == len(inbox.messages))
    assert 2 == bus.stats().handler_errors
    assert 2 == len(cache_log("event bus: a handler of t failed"))


def test_a_slow_handler_is_counted_and_logged(bus, monkeypatch, eventually, cache_log):
    monkeypatch.setattr(pubsub, "SLOW_HANDLER_SECONDS", 0.01)
    bus.subscribe("t", lambda topic, payload: threading.Event().wait(0.02))
    bus.publish("t", {})
    eventually(lambda: 1 == len(cache_log("a handler of t took 0.0 s; others waited")))
    assert 1 == bus.stats().slow_handlers


def test_a_message_that_is_no_json_object_is_dropped(bus, raw, inbox, eventually, cache_log):
    bus.subscribe("t", inbox)
    for body in ("{", "[1]", b"\xff"):
        raw.publish("rs:bus:t", body)
    bus.publish("t", {"n": 1})
    eventually(lambda: inbox.messages)
    assert [("t", {"n": 1})] == inbox.messages
    assert 3 == bus.stats().malformed
    assert 3 == len(cache_log("no JSON object"))


def test_a_closed_subscription_gets_nothing(bus, raw, inbox, eventually):
    last = Inbox()
    with bus.subscribe("t", inbox) as subscription:
        assert subscription.is_active
    bus.subscribe("u", last)
    bus.publish("t", {"n": 1})
    bus.publish("u", {"n": 2})
    eventually(lambda: last.messages)
    assert [] == inbox.messages
    assert not subscription.is_active
    assert [(b"rs:bus:t", 0)] == raw.pubsub_numsub("rs:bus:t")


def test_closing_one_of_two_handlers_leaves_the_other(bus, inbox, eventually):
    other = bus.subscribe("t", Inbox())
    bus.subscribe("t", inbox)
    other.close()
    other.close()
    bus.publish("t", {"n": 1})
    eventually(lambda: inbox.messages)


def test_a_topic_can_be_subscribed_again(bus, inbox, eventually):
    for _ in range(20):
        bus.subscribe("t", Inbox()).close()
    assert bus.subscribe("t", inbox).is_active
    bus.publish("t", {"n": 1})
    eventually(lambda: inbox.messages)


def test_a_handler_may_subscribe_publish_and_close(bus, inbox, eventually):
    def first(topic, payload):
        bus.subscribe("second", inbox)
        subscription.close()
        bus.publish("done", {})

    done = Inbox()
    bus.subscribe("done", done)
    subscription = bus.subscribe("first", first)
    bus.publish("first", {})
    eventually(lambda: done.messages)
    eventually(lambda: bus.publish("second", {"n": 1}))
    eventually(lambda: inbox.messages)
    assert 0 == bus.publish("first", {})


def test_a_handler_may_close_the_bus(redis_settings, raw, eventually):
    with EventBus(redis_settings) as bus:
        bus.subscribe("t", lambda topic, payload: bus.close())
        raw.publish("rs:bus:t", "{}")
        eventually(lambda: not [t for t in threading.enumerate() if "event-bus" in t.name])


def test_a_restart_of_redis_is_survived_and_told(
    fragile_server, fragile_bus, inbox, eventually, cache_log
):
    told = []
    fragile_bus.on_reconnect(lambda: told.append(True))
    fragile_bus.on_reconnect(lambda: 1 / 0)
    one = fragile_bus.subscribe("t", inbox)
    two = fragile_bus.psubscribe("p.*", inbox)
    fragile_server.restart()
    eventually(lambda: told)
    assert one.is_active
    assert two.is_active
    assert 2 == fragile_bus.publish("t", {"n": 1}) + fragile_bus.publish("p.1", {"n": 2})
    eventually(lambda: 2 == len(inbox.messages))
    assert [True] == told
    assert 1 == fragile_bus.stats().reconnects
    assert 1 == fragile_bus.stats().handler_errors
    assert 1 == len(cache_log("event bus: lost Redis"))


def test_a_connection_cut_by_the_server_is_told_too(fragile_server, fragile_bus, inbox, eventually):
    """What Redis does to a subscriber too slow for its 32 MB."""
    told = []
    fragile_bus.on_reconnect(lambda: told.append(True))
    fragile_bus.subscribe("t", inbox)
    with redis.Redis.from_url(fragile_server.url) as client:
        client.client_kill_filter(_type="pubsub")
    eventually(lambda: told)
    fragile_bus.publish("t", {"n": 1})
    eventually(lambda: inbox.messages)


def test_an_outage_is_logged_once_however_often_it_is_tried(
    fragile_server, fragile_bus, inbox, eventually, cache_log, monkeypatch
):
    monkeypatch.setattr(listener, "LONGEST_BACKOFF_SECONDS", 0.05)
    fragile_bus.subscribe("t", inbox)
    attempts = []
    pool = fragile_bus._listener._client.connection_pool
    connect = pool.get_connection

    def counted():
        attempts.append(1)
        return connect()

    monkeypatch.setattr(pool, "get_connection", counted)
    fragile_server.kill()
    eventually(lambda: 4 <= len(attempts))
    assert 1 == len(cache_log("event bus: lost Redis"))


def test_subscribing_while_redis_is_down_takes_effect_when_it_is_back(
    fragile_server, fragile_bus, inbox, eventually
):
    fragile_server.kill()
    started = time.monotonic()
    subscription = fragile_bus.subscribe("t", inbox)
    fragile_bus.subscribe("u", inbox)
    assert 2 > time.monotonic() - started
    assert not subscription.is_active
    fragile_server.start()
    eventually(lambda: subscription.is_active)
    fragile_bus.publish("t", {"n": 1})
    eventually(lambda: inbox.messages)


def test_with_nobody_subscribed_an_outage_is_nothing_to_tell(
    fragile_server, fragile_bus, inbox, eventually
):
    fragile_bus.subscribe("t", inbox).close()
    fragile_server.restart()
    eventually(lambda: not fragile_bus._listener._is_down)
    subscription = fragile_bus.subscribe("t", inbox)
    eventually(lambda: subscription.is_active)
    assert 0 == fragile_bus.stats().reconnects


def test_publishing_while_redis_is_down_fails_quickly(fragile_server, fragile_bus):
    fragile_server.kill()
    started = time.monotonic()
    for _ in range(100):
        with pytest.raises(CacheUnavailableError):
            fragile_bus.publish("t", {})
    assert 2 > time.monotonic() - started


def test_a_silent_server_is_noticed(
    fragile_server, fragile_bus, inbox, eventually, monkeypatch, cache_log
):
    """A connection whose other end is gone without a word looks open for ever."""
    monkeypatch.setattr(listener, "IDLE_SECONDS", 0.05)
    subscription = fragile_bus.subscribe("t", inbox)
    fragile_server.freeze()
    eventually(lambda: not subscription.is_active)
    assert 1 == len(cache_log("no answer to PING"))
    fragile_server.thaw()
    eventually(lambda: subscription.is_active)


def test_an_idle_connection_is_kept(fragile_server, fragile_bus, inbox, eventually, monkeypatch):
    monkeypatch.setattr(listener, "IDLE_SECONDS", 0.01)
    subscription = fragile_bus.subscribe("t", inbox)
    with redis.Redis.from_url(fragile_server.url) as client:
        before = client.info("commandstats").get("cmdstat_ping", {"calls": 0})["calls"]
        eventually(lambda: 5 < client.info("commandstats")["cmdstat_ping"]["calls"] - before)
    assert subscription.is_active
    assert 0 == fragile_bus.stats().reconnects


def test_nothing_runs_before_the_first_subscription(bus):
    bus.publish("t", {})
    assert bus._listener._thread is None


def test_closing_ends_the_thread_and_the_connections(steady_server, redis_settings, raw, inbox):
    gc.collect()
    before = len(raw.client_list())
    with EventBus(redis_settings) as bus:
        bus.subscribe("t", inbox)
        bus.publish("t", {})
        thread = bus._listener._thread
        assert thread is not None
        assert before < len(raw.client_list())
    assert not thread.is_alive()
    deadline = time.monotonic() + 5
    while before < len(raw.client_list()):
        assert time.monotonic() < deadline
    with pytest.raises(StorageError, match="closed"):
        bus.subscribe("t", inbox)
    bus.close()


def test_closing_during_an_outage_is_quick(fragile_server, inbox):
    with EventBus(fragile_server.settings()) as bus:
        bus.subscribe("t", inbox)
        fragile_server.kill()
        started = time.monotonic()
    assert 2 > time.monotonic() - started


def test_repr_shows_the_address_alone(steady_server, bus):
    assert f"EventBus({steady_server.socket})" == repr(bus)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_a_connection_of_its_own(bus, inbox, eventually):
    def child(answers, stop):
        """Publish and receive in the child, on what it inherited."""
        eventually(lambda: subscription.is_active)
        bus.publish("child", {"from": "child"})
        eventually(lambda: [m for m in inbox.messages if m[1].get("from") == "parent"])
        answers.put([payload["from"] for _, payload in inbox.messages])
        stop.wait(10)

    subscription = bus.subscribe("child", inbox)
    answers, stop = fork.Queue(), fork.Event()
    worker = fork.Process(target=child, args=(answers, stop))
    worker.start()
    eventually(lambda: inbox.messages)
    assert 2 == bus.publish("child", {"from": "parent"})
    assert ["child", "parent"] == answers.get(timeout=10)
    stop.set()
    worker.join(10)
    assert 0 == worker.exitcode
    bus.publish("child", {"from": "parent again"})
    eventually(lambda: 3 == len(inbox.messages))
    assert 0 == bus.stats().reconnects


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_bus_closed_before_the_fork_stays_closed(redis_settings, inbox):
    with EventBus(redis_settings) as bus:
        bus.subscribe("t", inbox)

    def child():
        with pytest.raises(StorageError):
            bus.subscribe("t", inbox)

    worker = fork.Process(target=child)
    worker.start()
    worker.join(10)
    assert 0 == worker.exitcode
