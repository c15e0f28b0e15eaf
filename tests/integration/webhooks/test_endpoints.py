"""Endpoints: what is accepted, what is kept of it, and who may share a transaction with it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from rootstream_db.errors import ConfigurationError, ValidationError
from rootstream_db.services.webhooks import PlainSeal, WebhookManager, WebhookStatus
from rootstream_db.services.webhooks.signing import key_of
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


def test_what_is_stored_of_a_secret_is_what_the_seal_made_of_it(
    committed_database, events, happen, receiver
):
    class Backwards:
        def seal(self, secret: bytes) -> bytes:
            return secret[::-1]

        def open(self, sealed: bytes) -> bytes:
            return sealed[::-1]

    webhooks = WebhookManager(
        committed_database, events, settings=WebhookSettings(), seal=Backwards()
    )
    with committed_database.transaction() as work:
        endpoint, secret = webhooks.add(
            work, receiver.url(), secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
        )
        assert key_of(secret)[::-1] == endpoint.secret
    happen()
    webhooks.relay()
    webhooks.deliver()
    assert all(request.is_signed_with(secret) for request in receiver.received)
    assert 2 == len(receiver.received)


def test_enabling_what_is_enabled_skips_nothing(committed_database, webhooks, add, happen):
    endpoint, _ = add(URL, event_types=["Happened"])
    happen(2)
    with committed_database.transaction() as work:
        webhooks.enable(work, work.webhook_endpoints.get_one(endpoint.id))
    assert 2 == webhooks.relay()


def test_a_secret_that_cannot_be_opened_is_a_failure_like_others(
    committed_database, events, happen, clock
):
    class Locked(PlainSeal):
        def open(self, sealed: bytes) -> bytes:
            raise ConfigurationError(f"no key for {sealed!r}")

    webhooks = WebhookManager(
        committed_database, events, settings=WebhookSettings(), clock=clock, seal=Locked()
    )
    with committed_database.transaction() as work:
        endpoint, _ = webhooks.add(work, URL, event_types=["Happened"])
    happen()
    webhooks.relay()
    webhooks.deliver()
    with committed_database.read() as work:
        [delivery] = work.webhook_deliveries.list_of_endpoint(endpoint.id)
        [attempt] = work.webhook_attempts.list_of_delivery(delivery.id)
    assert "the signing secret cannot be opened: configuration" == attempt.error


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
