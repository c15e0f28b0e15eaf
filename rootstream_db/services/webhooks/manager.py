"""Webhook endpoints: added, switched off and on, removed; messages sent anew."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from rootstream_db.clock import Clock, utc_now
from rootstream_db.database import Database
from rootstream_db.errors import NotFoundError, ValidationError
from rootstream_db.models.users import User
from rootstream_db.models.webhooks import DeliveryState, WebhookDelivery, WebhookEndpoint
from rootstream_db.security.keyring import KeyRing, development_keyring
from rootstream_db.security.tokens import SecretText
from rootstream_db.services.event_store import EventStore
from rootstream_db.services.event_store.payload import check_text
from rootstream_db.services.webhooks.addresses import target_of
from rootstream_db.services.webhooks.crew import Crew
from rootstream_db.services.webhooks.deliverer import WebhookDeliverer
from rootstream_db.services.webhooks.journal import WebhookJournal
from rootstream_db.services.webhooks.relay import WebhookRelay
from rootstream_db.services.webhooks.signing import EndpointSecrets, key_of, new_secret
from rootstream_db.settings import WebhookSettings
from rootstream_db.unit_of_work import UnitOfWork

MAX_TYPES: Final = 100
"""Event types that one endpoint may name."""

_MAX_NAME: Final = 100
_MAX_DESCRIPTION: Final = 200
_FORGET_BATCH: Final = 1000


@dataclass(frozen=True, kw_only=True)
class WebhookStatus:
    """How far webhooks are behind.

    Attributes:
        events_behind: events of the log that were not relayed yet.
        seconds_overdue: how long a message has waited for a deliverer since it was due.
    """

    events_behind: int
    seconds_overdue: float


class WebhookManager:
    """Tells other systems of events, over HTTP, signed, at least once.

    Args:
        database: where everything is stored.
        events: the log that is followed, and where changes of endpoints are recorded.
        settings: patience, repetition, addresses.
        clock: the source of the current time.
        keyring: returns what seals the signing secrets; default: under the development master key.
    """

    def __init__(
        self,
        database: Database,
        events: EventStore,
        *,
        settings: WebhookSettings,
        clock: Clock = utc_now,
        keyring: Callable[[], KeyRing] = development_keyring,
    ) -> None:
        self._database = database
        self._settings = settings
        self._secrets = EndpointSecrets(keyring)
        self._journal = WebhookJournal(events)
        self._events = events
        self._relay = WebhookRelay(database, events)
        self.deliverer = WebhookDeliverer(
            database, events, settings=settings, clock=clock, secrets=self._secrets
        )

    def add(
        self,
        work: UnitOfWork,
        url: str,
        *,
        event_types: Collection[str] = (),
        owner: User | None = None,
        description: str = "",
        secret: str | None = None,
    ) -> tuple[WebhookEndpoint, SecretText]:
        """Add an endpoint; it is told of all events from here on, whoever's they are.

        Args:
            work: the unit of work.
            url: https, or http on this machine.
            event_types: the types it is told of; none stands for all.
            owner: whose it is; it goes with the account. It does not narrow what is sent.
            description: what it is for.
            secret: a signing secret that the receiver has already; default: a new one.

        Returns:
            The endpoint, and the secret, which cannot be had again.

        Raises:
            ValidationError: the URL, a type, the description or the secret cannot be used.
        """
        target = target_of(url)
        types = _checked_types(event_types)
        check_text(description, "description")
        if len(description) > _MAX_DESCRIPTION:
            raise ValidationError("a description has at most 200 characters", field="description")
        given = SecretText(secret) if secret is not None else new_secret()
        key = key_of(given)
        endpoint = work.webhook_endpoints.add(
            WebhookEndpoint(
                url=url,
                owner_id=owner.id if owner is not None else None,
                description=description,
                event_types=types,
                secret=b"",
                after_position=work.webhook_relay.hold_still(),
            )
        )
        # Sealed for its row, whose id is known only now.
        self._secrets.put(endpoint, key)
        self._journal.record(
            work, endpoint, "WebhookAdded", {"to": target.origin, "event_types": types}
        )
        return endpoint, given

    def remove(self, work: UnitOfWork, endpoint: WebhookEndpoint) -> None:
        """Remove an endpoint, what waits for it and its delivery log."""
        work.webhook_relay.hold_still()
        self._journal.record(work, endpoint, "WebhookRemoved", {})
        work.webhook_endpoints.delete(endpoint)

    def disable(self, work: UnitOfWork, endpoint: WebhookEndpoint, *, reason: str) -> None:
        """Send nothing more; events from here on are not kept for it, what waits stays."""
        work.webhook_relay.hold_still()
        self._journal.disable(work, endpoint, reason)

    def enable(self, work: UnitOfWork, endpoint: WebhookEndpoint) -> None:
        """Go on sending: what waited, and the events from here on."""
        if endpoint.enabled:
            return
        endpoint.after_position = work.webhook_relay.hold_still()
        endpoint.enabled = True
        endpoint.disabled_reason = endpoint.failing_since = None
        self._journal.record(work, endpoint, "WebhookEnabled", {})

    def redeliver(self, work: UnitOfWork, delivery_id: int) -> WebhookDelivery:
        """Send a message anew, with the id it had, and give it all its attempts again.

        Raises:
            NotFoundError: there is no such message, or it was forgotten.
        """
        delivery = work.webhook_deliveries.lock(delivery_id)
        if delivery is None:
            raise NotFoundError("WebhookDelivery", delivery_id)
        # One that is under way stays claimed: its answer decides.
        if delivery.state is not DeliveryState.PENDING:
            delivery.next_attempt_at = work.now
        delivery.state = DeliveryState.PENDING
        delivery.attempts_before = delivery.attempts
        delivery.finished_at = None
        return delivery

    def redeliver_dead(self, work: UnitOfWork, endpoint: WebhookEndpoint) -> int:
        """Send all messages anew that an endpoint never took; return how many."""
        return work.webhook_deliveries.revive_dead(endpoint.id, work.now)

    def status(self) -> WebhookStatus:
        """Return how far relay and deliverers are behind."""
        with self._database.read() as work:
            relayed = work.webhook_relay.get_position()
            # Asked last: the relay cannot be ahead of an end that is read after it.
            end = work.events.get_head().last_position
            waits_since = work.webhook_deliveries.get_oldest_due(work.now)
            return WebhookStatus(
                events_behind=0 if relayed is None else end - relayed,
                seconds_overdue=(work.now - waits_since).total_seconds() if waits_since else 0.0,
            )

    def listening(self) -> AbstractContextManager[threading.Event]:
        """Return an event that is set whenever there may be something to relay."""
        return self._events.listening()

    def relay(self) -> int:
        """Make deliveries of what was committed until now; return how many."""
        return self._relay.relay()

    def deliver(self) -> int:
        """Send what is due until nothing is; return how many attempts were made."""
        with Crew(self.deliverer, self._settings) as crew:
            while crew.pump() or crew.is_busy:
                crew.wait(self._settings.poll_interval)
            return crew.attempts

    def forget(self) -> int:
        """Delete messages that were delivered or given up long ago; return how many."""

        def delete(work: UnitOfWork) -> int:
            before = work.now - self._settings.keep
            return work.webhook_deliveries.delete_finished(before, limit=_FORGET_BATCH)

        forgotten = 0
        while (deleted := self._database.run(delete)) == _FORGET_BATCH:
            forgotten += deleted
        return forgotten + deleted


def _checked_types(event_types: Collection[str]) -> list[str]:
    """Return the types in order and once each.

    Raises:
        ValidationError: they are too many, or one cannot be the type of an event.
    """
    if isinstance(event_types, str) or len(event_types) > MAX_TYPES:
        raise ValidationError(
            f"event_types is a collection of at most {MAX_TYPES} names", field="event_types"
        )
    for name in event_types:
        check_text(name, "event_types")
        if not 0 < len(name) <= _MAX_NAME:
            raise ValidationError("an event type has 1 to 100 characters", field="event_types")
    return sorted(set(event_types))
