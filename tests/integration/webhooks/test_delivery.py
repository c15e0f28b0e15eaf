"""Delivering: signed, repeated, bounded, logged, to receivers that do whatever they like."""

from __future__ import annotations

import logging
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from rootstream_db.errors import NotFoundError
from rootstream_db.models import DeliveryState
from tests.fixtures.receiver import closed_port

DELIVERED, DEAD, PENDING = DeliveryState.DELIVERED, DeliveryState.DEAD, DeliveryState.PENDING


@pytest.fixture
def endpoint_now(committed_database):
    def get(endpoint):
        with committed_database.read() as work:
            return work.webhook_endpoints.get_one(endpoint.id)

    return get


def send(webhooks):
    webhooks.relay()
    return webhooks.deliver()


def test_a_message_says_what_happened_and_who_says_so(webhooks, add, happen, receiver, clock):
    _, secret = add(receiver.url(), event_types=["Happened"])
    [event] = happen()
    assert 1 == send(webhooks)

    [request] = receiver.received
    assert request.is_signed_with(secret)
    assert not request.is_signed_with("whsec_" + "A" * 43 + "=")
    assert f"evt_{event.event_id.hex}" == request.id
    assert str(int(clock().timestamp())) == request.headers["webhook-timestamp"]
    assert "application/json" == request.headers["content-type"]
    assert ("Happened", {"number": 0}) == (request.message["type"], request.message["data"])
    assert {
        "id": str(event.event_id),
        "position": 2,
        "aggregate_type": "Thing",
        "aggregate_id": "1",
        "version": 1,
        "schema_version": 1,
        "user_id": None,
        "correlation_id": None,
    }.items() <= request.message["event"].items()


def test_what_was_delivered_is_logged_and_not_sent_again(webhooks, add, happen, receiver, log):
    endpoint, _ = add(receiver.url("/204"), event_types=["Happened"])
    happen(7)
    assert 7 == send(webhooks)
    assert 0 == send(webhooks)
    assert 7 == len(receiver.received)
    for delivery, attempts in log(endpoint):
        assert (DELIVERED, 1) == (delivery.state, delivery.attempts)
        assert [(1, 204, None)] == [(one.number, one.status, one.error) for one in attempts]
        assert attempts[0].duration_ms >= 0


def test_a_failure_is_repeated_with_growing_pauses_under_the_same_id(
    webhooks, add, happen, receiver, clock, log
):
    endpoint, secret = add(receiver.url("/500"), event_types=["Happened"])
    happen()
    assert 1 == send(webhooks)
    clock.advance(3)
    assert 0 == send(webhooks)
    clock.advance(4)
    assert 1 == send(webhooks)
    receiver.answers["/500"] = 200
    clock.advance(26)
    assert 1 == send(webhooks)

    assert 1 == len({request.id for request in receiver.received})
    assert 1 == len({request.body for request in receiver.received})
    assert 3 == len({request.headers["webhook-timestamp"] for request in receiver.received})
    assert all(request.is_signed_with(secret) for request in receiver.received)
    [(delivery, attempts)] = log(endpoint)
    assert DELIVERED == delivery.state
    assert [(500, "answered 500"), (500, "answered 500"), (200, None)] == [
        (one.status, one.error) for one in attempts
    ]


def test_after_the_last_attempt_a_message_is_dead_until_it_is_redelivered(
    committed_database, webhooks, add, happen, receiver, clock, log
):
    endpoint, _ = add(receiver.url("/500"), event_types=["Happened"])
    happen(2)
    for _ in range(5):
        send(webhooks)
        clock.advance(3600)
    assert [(DEAD, 3), (DEAD, 3)] == [(one.state, one.attempts) for one, _ in log(endpoint)]

    receiver.answers["/500"] = 200
    [(first, _), (second, _)] = log(endpoint)
    with committed_database.transaction() as work:
        webhooks.redeliver(work, first.id)
    assert 1 == send(webhooks)
    with committed_database.transaction() as work:
        assert 1 == webhooks.redeliver_dead(work, endpoint)
    assert 1 == send(webhooks)
    [(first, attempts), (second, _)] = log(endpoint)
    assert [DELIVERED, DELIVERED] == [first.state, second.state]
    assert [1, 2, 3, 4] == [one.number for one in attempts]
    assert [4, 4] == sorted(Counter(request.id for request in receiver.received).values())


def test_a_redelivered_message_has_all_its_attempts_again(
    committed_database, webhooks, add, happen, receiver, clock, log
):
    endpoint, _ = add(receiver.url("/500"), event_types=["Happened"])
    happen()
    for _ in range(4):
        send(webhooks)
        clock.advance(3600)
    with committed_database.transaction() as work:
        webhooks.redeliver(work, log(endpoint)[0][0].id)
    for _ in range(4):
        send(webhooks)
        clock.advance(3600)
    assert 6 == len(receiver.received)
    assert DEAD == log(endpoint)[0][0].state


def test_redelivering_what_does_not_exist_is_refused(committed_database, webhooks):
    with pytest.raises(NotFoundError), committed_database.transaction() as work:
        webhooks.redeliver(work, 0)


def test_a_receiver_that_asks_for_time_gets_it(webhooks, add, happen, receiver, clock):
    receiver.headers["Retry-After"] = "600"
    add(receiver.url("/429"), event_types=["Happened"])
    happen()
    assert 1 == send(webhooks)
    clock.advance(599)
    assert 0 == send(webhooks)
    clock.advance(1)
    assert 1 == send(webhooks)


def test_redirects_are_not_followed(webhooks, add, happen, receiver, log):
    receiver.headers["Location"] = receiver.url("/200")
    endpoint, _ = add(receiver.url("/302"), event_types=["Happened"])
    happen()
    send(webhooks)
    assert ["/302"] == [request.path for request in receiver.received]
    assert "answered 302: redirects are not followed" == log(endpoint)[0][1][0].error


def test_a_receiver_that_is_gone_is_not_told_again(
    webhooks, add, happen, receiver, log, events, endpoint_now
):
    endpoint, _ = add(receiver.url("/410"), event_types=["Happened"])
    happen()
    send(webhooks)
    now = endpoint_now(endpoint)
    assert (False, "it answered 410: gone") == (now.enabled, now.disabled_reason)
    assert DEAD == log(endpoint)[0][0].state
    assert ["WebhookAdded", "WebhookDisabled"] == [
        event.event_type for event in events.read("Webhook", str(endpoint.id))
    ]


def test_an_endpoint_that_fails_for_long_is_disabled_and_can_be_enabled(
    committed_database, managed, add, happen, receiver, clock, endpoint_now
):
    webhooks = managed(attempts=100, disable_after=timedelta(hours=2))
    endpoint, _ = add(receiver.url("/500"), event_types=["Happened"])
    happen()
    while endpoint_now(endpoint).enabled:
        assert len(receiver.received) < 50
        send(webhooks)
        clock.advance(600)
    assert "answered 500" in endpoint_now(endpoint).disabled_reason
    clock.advance(timedelta(days=1).total_seconds())
    assert 0 == send(webhooks)

    receiver.answers["/500"] = 200
    with committed_database.transaction() as work:
        webhooks.enable(work, work.webhook_endpoints.get_one(endpoint.id))
    assert 1 == send(webhooks)
    now = endpoint_now(endpoint)
    assert (True, None, None) == (now.enabled, now.disabled_reason, now.failing_since)


@pytest.mark.parametrize("path", ["/hang", "/drip"])
def test_a_receiver_that_does_not_come_to_an_end_is_cut_off(
    managed, add, happen, receiver, log, path
):
    endpoint, _ = add(receiver.url(path), event_types=["Happened"])
    happen()
    began = time.monotonic()
    send(managed(timeout=0.3))
    assert time.monotonic() - began < 5
    [(delivery, [attempt])] = log(endpoint)
    assert (PENDING, "no answer within 0.3 s") == (delivery.state, attempt.error)


def test_an_answer_without_end_costs_nothing(webhooks, add, happen, receiver, log):
    endpoint, _ = add(receiver.url("/endless"), event_types=["Happened"])
    happen()
    began = time.monotonic()
    send(webhooks)
    assert time.monotonic() - began < 5
    assert DELIVERED == log(endpoint)[0][0].state


def test_nobody_listening_is_a_failure_like_others(webhooks, add, happen, log):
    endpoint, _ = add(f"http://127.0.0.1:{closed_port()}/", event_types=["Happened"])
    happen()
    send(webhooks)
    assert "no answer: Connection refused" == log(endpoint)[0][1][0].error


def test_what_resolves_to_this_machine_is_refused_at_every_attempt(managed, add, happen, log):
    endpoint, _ = add("http://127.0.0.1:9/", event_types=["Happened"])
    happen()
    send(managed(allow_loopback=False))
    expected = "refused address: it is on this machine (webhooks.allow_loopback)"
    assert expected == log(endpoint)[0][1][0].error


def test_a_slow_endpoint_holds_up_no_other(managed, add, happen, receiver, clock, log):
    webhooks = managed(timeout=20)
    slow, _ = add(receiver.url("/hang"), event_types=["Happened"])
    quick, _ = add(receiver.url("/200"), event_types=["Happened"])
    happen(30)
    webhooks.relay()
    with ThreadPoolExecutor(1) as thread:
        delivering = thread.submit(webhooks.deliver)
        deadline = time.monotonic() + 15
        while len(receiver.at("/200")) < 30 and time.monotonic() < deadline:
            time.sleep(0.01)
        delivered = len(receiver.at("/200"))
        asked = len(receiver.at("/hang"))
        receiver.released.set()
        delivering.result(60)
    assert (30, 3) == (delivered, asked)
    assert {DELIVERED} == {delivery.state for delivery, _ in log(quick)}
    assert {PENDING} == {delivery.state for delivery, _ in log(slow)}


def test_many_failing_endpoints_leave_half_of_the_threads_to_others(
    managed, add, happen, receiver, clock
):
    webhooks = managed(timeout=20)
    for _ in range(12):
        add(receiver.url("/hang"), event_types=["Happened"])
    add(receiver.url("/200"), event_types=["Happened"])
    happen(1)
    # A first round, cut short: the twelve are known to fail from here on.
    assert 13 == send(managed(timeout=0.2))
    clock.advance(3600)
    happen(20)
    webhooks.relay()
    with ThreadPoolExecutor(1) as thread:
        delivering = thread.submit(webhooks.deliver)
        deadline = time.monotonic() + 15
        while len(receiver.at("/200")) < 21 and time.monotonic() < deadline:
            time.sleep(0.01)
        delivered = len(receiver.at("/200"))
        asked = len(receiver.at("/hang")) - 12
        receiver.released.set()
        delivering.result(60)
    assert (21, 4) == (delivered, asked)


def test_several_deliverers_share_the_work(managed, add, happen, receiver, log):
    endpoints = [add(receiver.url("/200"), event_types=["Happened"])[0] for _ in range(3)]
    happen(40)
    managed().relay()
    with ThreadPoolExecutor(3) as threads:
        made = [one.result(60) for one in [threads.submit(managed().deliver) for _ in range(3)]]
    assert 120 == sum(made) == len(receiver.received)
    assert {3} == set(Counter(request.id for request in receiver.received).values())
    for endpoint in endpoints:
        assert {DELIVERED} == {delivery.state for delivery, _ in log(endpoint)}


@pytest.fixture
def claimed_twice(webhooks, add, happen, receiver, clock):
    """An endpoint and two claims of its one message: the first ran out."""
    endpoint, _ = add(receiver.url("/500"), event_types=["Happened"])
    happen()
    webhooks.relay()
    claims = []
    for _ in range(2):
        claims += webhooks.deliverer.claim(failing=False, per_endpoint=9, limit=9, excluded=())
        clock.advance(60)
        assert [] == webhooks.deliverer.claim(
            failing=False, per_endpoint=9, limit=9, excluded=()
        ), "a claim lasts longer than that"
        clock.advance(3600)
    return endpoint, *claims


def test_a_late_failure_leaves_the_message_to_who_has_it_now(
    webhooks, claimed_twice, receiver, log
):
    endpoint, first, second = claimed_twice
    [(before, _)] = log(endpoint)
    webhooks.deliverer.attempt(first)
    [(after, attempts)] = log(endpoint)
    assert (PENDING, before.next_attempt_at) == (after.state, after.next_attempt_at)
    assert [(1, 500)] == [(one.number, one.status) for one in attempts]

    receiver.answers["/500"] = 200
    webhooks.deliverer.attempt(second)
    assert DELIVERED == log(endpoint)[0][0].state


def test_a_late_success_counts_and_no_later_failure_takes_it_back(
    webhooks, claimed_twice, receiver, log
):
    endpoint, first, second = claimed_twice
    receiver.answers["/500"] = 200
    webhooks.deliverer.attempt(first)
    del receiver.answers["/500"]
    webhooks.deliverer.attempt(second)
    [(delivery, attempts)] = log(endpoint)
    assert DELIVERED == delivery.state
    assert [200, 500] == [one.status for one in attempts]


def test_recording_an_answer_twice_changes_nothing(webhooks, claimed_twice, log):
    """As after a connection that was lost during COMMIT."""
    endpoint, _, second = claimed_twice
    webhooks.deliverer.attempt(second)
    [(before, _)] = log(endpoint)
    webhooks.deliverer.attempt(second)
    [(after, attempts)] = log(endpoint)
    assert 1 == len(attempts)
    assert before.next_attempt_at == after.next_attempt_at


def test_what_is_finished_is_forgotten_after_a_while(webhooks, add, happen, receiver, clock, log):
    endpoint, _ = add(receiver.url("/200"), event_types=["Happened"])
    stuck, _ = add(receiver.url("/503"), event_types=["Happened"])
    happen(3)
    send(webhooks)
    clock.advance(timedelta(days=31).total_seconds())
    assert 3 == webhooks.forget()
    assert ([], 3) == (log(endpoint), len(log(stuck)))


def test_secrets_and_urls_are_in_no_log_and_no_event(
    webhooks, add, happen, receiver, events, caplog
):
    caplog.set_level(logging.DEBUG)
    endpoint, secret = add(receiver.url("/500?token=hunter22"))
    happen()
    send(webhooks)
    told = [event.data for event in events.read("Webhook", str(endpoint.id))]
    shown = caplog.text + repr(endpoint) + repr(told)
    assert "hunter22" not in shown
    assert secret.removeprefix("whsec_") not in shown
