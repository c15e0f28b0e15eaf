"""Endpoints: what is accepted, what is kept of it, and who may share a transaction with it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from rootstream_db.errors import SealBrokenError, ValidationError
from rootstream_db.security.keyring import KeyRing, development_keyring
from rootstream_db.services.webhooks import WebhookManager, WebhookStatus
from rootstream_db.services.webhooks.signing import EndpointSecrets, key_of
from rootstream_db.settings import WebhookSettings
from tests.factories import make_user

URL = "https://hooks.example.com/in"


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("url", {"url": "http://example.com/"}),
        ("event_types", {"event_types": "Happened"}),
        ("event_types", {"event_types": [""]}),
        ("event_types", {"event_types": ["x" * 101]}),
        ("event_types", {"event_types": ["nul\0"]}),
        ("event_types", {"event_types": [str(n) for n in range(101)]}),
        ("description", {"description": "x" * 201}),
        ("description", {"description": "nul\0"}),
        ("secret", {"secret": "hunter22"}),
    ],
)
def test_what_cannot_be_used_is_refused(webhooks, committed_database, field, options):
    with pytest.raises(ValidationError) as caught, committed_database.transaction() as work:
        webhooks.add(work, **{"url": URL, **options})
    assert field == caught.value.field


def test_a_secret_of_the_receivers_own_is_taken(add):
    given = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    _, secret = add(URL, secret=given)
    assert given == secret
    assert "SecretText('**********')" == repr(secret)


def test_types_are_kept_once_each(add):
    endpoint, _ = add(URL, event_types=["B", "A", "B"])
    assert ["A", "B"] == endpoint.event_types


def test_endpoints_go_with_their_owner(webhooks, committed_database, happen):
    with committed_database.transaction() as work:
        owner = make_user(work)
        webhooks.add(work, URL, owner=owner)
        assert 1 == len(work.webhook_endpoints.list_by_owner(owner.id))
    happen()
    webhooks.relay()
    with committed_database.transaction() as work:
        work.users.delete(work.users.get_one(owner.id))
        assert [] == work.webhook_endpoints.list_all()


def test_an_endpoint_of_a_unit_that_failed_was_never_there(webhooks, committed_database):
    with pytest.raises(RuntimeError), committed_database.transaction() as work:
        webhooks.add(work, URL)
        raise RuntimeError
    with committed_database.read() as work:
        assert [] == work.webhook_endpoints.list_all()


def test_a_signing_secret_is_stored_sealed_for_its_row(committed_database, add, happen, receiver):
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    first, _ = add(receiver.url("/200"), secret=secret)
    second, _ = add(receiver.url("/201"), secret=secret)
    ring = development_keyring()
    assert (1, 1) == (first.secret_key_id, ring.key_id(first.secret))
    assert key_of(secret) not in first.secret + second.secret
    with committed_database.transaction() as work:
        work.webhook_endpoints.get_one(first.id).secret = second.secret
        swapped = work.webhook_endpoints.get_one(first.id)
        with pytest.raises(SealBrokenError):
            EndpointSecrets(development_keyring).of(swapped)


def test_a_sealed_secret_signs(add, happen, receiver, webhooks):
    _, secret = add(receiver.url())
    happen()
    webhooks.relay()
    webhooks.deliver()
    assert 2 == len(receiver.received)
    assert all(request.is_signed_with(secret) for request in receiver.received)


def test_a_secret_stored_before_there_was_a_key_ring_signs_on(
    committed_database, add, happen, receiver, webhooks
):
    endpoint, secret = add(receiver.url(), event_types=["Happened"])
    with committed_database.transaction() as work:
        row = work.webhook_endpoints.get_one(endpoint.id)
        row.secret, row.secret_key_id = key_of(secret), None
    happen()
    webhooks.relay()
    webhooks.deliver()
    assert [True] == [request.is_signed_with(secret) for request in receiver.received]


def test_enabling_what_is_enabled_skips_nothing(committed_database, webhooks, add, happen):
    endpoint, _ = add(URL, event_types=["Happened"])
    happen(2)
    with committed_database.transaction() as work:
        webhooks.enable(work, work.webhook_endpoints.get_one(endpoint.id))
    assert 2 == webhooks.relay()


def test_a_secret_that_cannot_be_opened_is_a_failure_like_others(
    committed_database, events, happen, clock
):
    rings = [KeyRing({2: b"2" * 32}), KeyRing({1: b"1" * 32})]
    webhooks = WebhookManager(
        committed_database,
        events,
        settings=WebhookSettings(),
        clock=clock,
        keyring=lambda: rings[-1],
    )
    with committed_database.transaction() as work:
        endpoint, _ = webhooks.add(work, URL, event_types=["Happened"])
    rings.pop()
    happen()
    webhooks.relay()
    webhooks.deliver()
    with committed_database.read() as work:
        [delivery] = work.webhook_deliveries.list_of_endpoint(endpoint.id)
        [attempt] = work.webhook_attempts.list_of_delivery(delivery.id)
    assert "the signing secret cannot be opened: seal.unknown_key" == attempt.error


def test_it_is_seen_how_far_relay_and_deliverers_are_behind(webhooks, add, happen, receiver, clock):
    assert WebhookStatus(events_behind=0, seconds_overdue=0) == webhooks.status()
    add(receiver.url(), event_types=["Happened"])
    happen(2)
    assert WebhookStatus(events_behind=3, seconds_overdue=0) == webhooks.status()
    webhooks.relay()
    clock.advance(90)
    assert WebhookStatus(events_behind=0, seconds_overdue=90) == webhooks.status()
    webhooks.deliver()
    assert WebhookStatus(events_behind=0, seconds_overdue=0) == webhooks.status()


def test_an_account_may_go_while_its_events_are_relayed(
    webhooks, committed_database, happen, clock
):
    """The relay holds on to the endpoints it makes deliveries for."""
    with committed_database.transaction() as work:
        owner = make_user(work)
        webhooks.add(work, URL, owner=owner)
    with ThreadPoolExecutor(1) as thread, committed_database.transaction() as work:
        assert 1 == len(work.webhook_endpoints.keep_enabled())

        def go() -> None:
            with committed_database.transaction() as other:
                other.users.delete(other.users.get_one(owner.id))

        going = thread.submit(go)
        with pytest.raises(TimeoutError):
            going.result(0.3)
        assert 1 == len(work.webhook_endpoints.keep_enabled())
        work.webhook_relay.move(1)
    going.result(20)
    happen()
    assert 0 == webhooks.relay()
