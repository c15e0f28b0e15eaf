"""Webhooks through a kill at any point: every event arrives, repeated ones under the same id.

Relays and deliverers are real processes, ended by a real SIGKILL at a step of their conversation
with PostgreSQL, or by the receiver at the moment their request comes in.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter

import pytest

from rootstream_db.models import DeliveryState
from rootstream_db.services.webhooks import WebhookManager
from rootstream_db.settings import WebhookSettings
from tests.fixtures.doom import fork_doomed, was_killed
from tests.fixtures.receiver import Receiver

ROUNDS = 40

pytestmark = [
    pytest.mark.slow,
    # Children only relay or deliver and die; they never touch what the parent's threads may hold.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def webhooks(rootstream, clock):
    settings = WebhookSettings(workers=3, per_endpoint=2, poll_interval=0.02)
    return WebhookManager(rootstream.database, rootstream.events, settings=settings, clock=clock)


@pytest.fixture
def endpoints(rootstream, webhooks, receiver):
    with rootstream.transaction() as work:
        return [
            webhooks.add(work, receiver.url(path), event_types=["Happened"])
            for path in ("/200", "/201")
        ]


def happen(rootstream, number):
    with rootstream.transaction() as work:
        events = [
            rootstream.events.append(work, "Thing", "1", "Happened", {}) for _ in range(number)
        ]
    return [f"evt_{event.event_id.hex}" for event in events]


def positions(rootstream, endpoint):
    with rootstream.database.read() as work:
        found = work.webhook_deliveries.list_of_endpoint(endpoint.id, limit=10_000)
    return sorted(delivery.position for delivery in found)


def test_every_single_step_of_a_relay_may_be_the_last(rootstream, webhooks, endpoints):
    expected = step = 0
    while True:
        step += 1
        expected += len(happen(rootstream, 2))
        if not was_killed(fork_doomed(webhooks.relay, at=step)):
            break
        if step % 3 == 0:
            webhooks.relay()
    for endpoint, _ in endpoints:
        assert list(range(3, 3 + expected)) == positions(rootstream, endpoint)
    assert 5 < step


def test_killed_relays_and_deliverers_lose_nothing(rootstream, webhooks, endpoints, receiver):
    chance = random.Random(7)
    sent: list[str] = []
    kills = 0
    for _ in range(ROUNDS):
        sent += happen(rootstream, chance.randrange(1, 4))
        children = [
            fork_doomed(webhooks.relay, at=chance.randrange(1, 14)),
            fork_doomed(webhooks.deliver, at=chance.randrange(1, 80)),
            fork_doomed(webhooks.deliver, at=chance.randrange(1, 80)),
        ]
        kills += sum(was_killed(child) for child in children)
        rootstream.clock.advance(chance.choice((1, 10, 80)))
    finish(rootstream, webhooks)

    for (endpoint, secret), path in zip(endpoints, ("/200", "/201"), strict=True):
        arrived = Counter(request.id for request in receiver.at(path))
        assert set(sent) == set(arrived)
        assert list(range(3, 3 + len(sent))) == positions(rootstream, endpoint)
        assert all(request.is_signed_with(secret) for request in receiver.at(path))
        bodies = {(request.id, request.body) for request in receiver.at(path)}
        assert len(sent) == len(bodies)
    assert ROUNDS < kills


def test_a_deliverer_that_dies_while_it_sends_is_followed_by_another(
    rootstream, webhooks, endpoints, receiver
):
    sent = happen(rootstream, 3)
    webhooks.relay()
    child = 0

    def kill(_: object) -> None:
        os.kill(child, signal.SIGKILL)

    receiver.on_request = kill
    child = fork_doomed(webhooks.deliver, at=None)
    assert was_killed(child)
    first = {(request.path, request.id) for request in receiver.received}
    receiver.on_request = lambda _: None
    assert first

    # What the dead one had claimed comes when its claim has run out, not before.
    webhooks.deliver()
    rootstream.clock.advance(300)
    finish(rootstream, webhooks)
    arrived = Counter((request.path, request.id) for request in receiver.received)
    assert {(path, one) for path in ("/200", "/201") for one in sent} == set(arrived)
    assert all(arrived[repeated] >= 2 for repeated in first)


def finish(rootstream, webhooks):
    """Relay and deliver until all is done, as the next hours would."""
    for _ in range(20):
        webhooks.relay()
        webhooks.deliver()
        rootstream.clock.advance(80)
    with rootstream.database.read() as work:
        for endpoint in work.webhook_endpoints.list_all():
            counts = work.webhook_deliveries.count_by_state(endpoint.id)
            assert {DeliveryState.DELIVERED} == set(counts)
