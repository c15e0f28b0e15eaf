"""Relaying: every committed event becomes one delivery for each endpoint that wants it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from rootstream_db.services.webhooks import relay

URL = "https://hooks.example.com/in"


def positions(database, endpoint):
    with database.read() as work:
        found = work.webhook_deliveries.list_of_endpoint(endpoint.id, limit=10_000)
    return [delivery.position for delivery in reversed(found)]


def test_every_endpoint_gets_what_it_wants(committed_database, webhooks, add, happen):
    everything, _ = add(URL)
    some, _ = add(URL, event_types=["Happened"])
    happen(2)
    happen(1, "Other")
    webhooks.relay()

    # The first two events tell of the endpoints themselves.
    assert [1, 2, 3, 4, 5] == positions(committed_database, everything)
    assert [3, 4] == positions(committed_database, some)


def test_what_happened_before_an_endpoint_came_is_not_sent(
    committed_database, webhooks, add, happen
):
    happen(3)
    late, _ = add(URL, event_types=["Happened"])
    happen(1)
    webhooks.relay()
    assert [5] == positions(committed_database, late)


def test_relaying_again_makes_nothing(committed_database, webhooks, add, happen):
    endpoint, _ = add(URL, event_types=["Happened"])
    happen(3)
    assert [3, 0] == [webhooks.relay(), webhooks.relay()]
    assert 3 == len(positions(committed_database, endpoint))


def test_more_than_a_batch_is_relayed_in_one_go(
    committed_database, webhooks, add, happen, monkeypatch
):
    monkeypatch.setattr(relay, "BATCH", 10)
    endpoint, _ = add(URL, event_types=["Happened"])
    happen(35)
    assert 35 == webhooks.relay()
    assert list(range(2, 37)) == positions(committed_database, endpoint)


def test_without_endpoints_there_is_nothing_to_follow(webhooks, happen):
    happen(3)
    assert 0 == webhooks.relay()


def test_relays_that_run_at_once_make_each_delivery_once(committed_database, webhooks, add, happen):
    endpoint, _ = add(URL, event_types=["Happened"])
    done = threading.Event()

    def follow() -> int:
        made: int = 0
        while not done.is_set():
            made += webhooks.relay()
        made += webhooks.relay()
        return made

    with ThreadPoolExecutor(4) as threads:
        relays = [threads.submit(follow) for _ in range(3)]
        for _ in range(40):
            happen(3)
        done.set()
        made = sum(one.result(30) for one in relays)
    made += webhooks.relay()
    assert 120 == made
    assert list(range(2, 122)) == positions(committed_database, endpoint)


def test_an_endpoint_added_beside_writers_and_a_relay_gets_all_from_one_point_on(
    committed_database, webhooks, add, happen
):
    add(URL, event_types=["Nothing"])
    done = threading.Event()

    def follow() -> None:
        while not done.is_set():
            webhooks.relay()

    def write() -> None:
        while not done.is_set():
            happen(2)

    with ThreadPoolExecutor(3) as threads:
        running = [threads.submit(follow), threads.submit(write), threads.submit(write)]
        endpoints = [add(URL)[0] for _ in range(15)]
        done.set()
        for one in running:
            one.result(30)
    webhooks.relay()
    with committed_database.read() as work:
        end = max(d.position for d in work.webhook_deliveries.list_of_endpoint(endpoints[0].id))
    for endpoint in endpoints:
        expected = list(range(endpoint.after_position + 1, end + 1))
        assert expected == positions(committed_database, endpoint)


def test_a_disabled_endpoint_gets_nothing_and_then_what_comes(
    committed_database, webhooks, add, happen
):
    endpoint, _ = add(URL, event_types=["Happened"])
    with committed_database.transaction() as work:
        webhooks.disable(work, work.webhook_endpoints.get_one(endpoint.id), reason="a test")
    happen(2)
    webhooks.relay()
    happen(2)
    with committed_database.transaction() as work:
        webhooks.enable(work, work.webhook_endpoints.get_one(endpoint.id))
    happen(1)
    webhooks.relay()
    assert [8] == positions(committed_database, endpoint)


def test_removing_an_endpoint_removes_what_waits(committed_database, webhooks, add, happen):
    endpoint, _ = add(URL)
    happen(2)
    webhooks.relay()
    with committed_database.transaction() as work:
        webhooks.remove(work, work.webhook_endpoints.get_one(endpoint.id))
    assert [] == positions(committed_database, endpoint)
    assert 0 == webhooks.relay()
