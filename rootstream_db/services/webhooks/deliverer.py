"""One attempt to deliver a message, from the claim to what is remembered of it."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from rootstream_db.clock import Clock
from rootstream_db.database import Database
from rootstream_db.errors import RootStreamError
from rootstream_db.models.webhooks import (
    MAX_REASON,
    DeliveryState,
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
)
from rootstream_db.services.event_store import EventStore, RecordedEvent
from rootstream_db.services.webhooks.addresses import target_of
from rootstream_db.services.webhooks.journal import WebhookJournal
from rootstream_db.services.webhooks.messages import body_of, message_id
from rootstream_db.services.webhooks.schedule import RetrySchedule, retry_after
from rootstream_db.services.webhooks.signing import EndpointSecrets, headers_for
from rootstream_db.services.webhooks.transport import Answer, Transport
from rootstream_db.settings import WebhookSettings
from rootstream_db.unit_of_work import UnitOfWork

CLAIM_SLACK: Final = timedelta(seconds=60)
"""What a claim lasts beyond the longest exchange, for name servers and a busy database."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A message that one deliverer may send until the claim runs out."""

    delivery_id: int
    endpoint_id: int
    position: int
    number: int


class WebhookDeliverer:
    """Claims messages, sends them and records the answers; never with a transaction open.

    A deliverer that dies leaves a claim that runs out; the message is then sent again, under the
    same id.

    Args:
        database: where deliveries are.
        events: the log the messages are made from.
        settings: patience and repetition.
        clock: the source of the current time.
        secrets: opens the stored secrets.
    """

    def __init__(
        self,
        database: Database,
        events: EventStore,
        *,
        settings: WebhookSettings,
        clock: Clock,
        secrets: EndpointSecrets,
    ) -> None:
        self._database = database
        self._events = events
        self._settings = settings
        self._clock = clock
        self._secrets = secrets
        self._transport = Transport(settings)
        self._journal = WebhookJournal(events)
        self._schedule = RetrySchedule(
            attempts=settings.attempts,
            first_delay=settings.first_delay,
            max_delay=settings.max_delay,
        )

    def claim(
        self, *, failing: bool, per_endpoint: int, limit: int, excluded: Collection[int]
    ) -> list[Claim]:
        """Take messages that are due; see ``WebhookDeliveryRepository.claim``."""

        def take(work: UnitOfWork) -> Sequence[WebhookDelivery]:
            lasting = timedelta(seconds=self._settings.timeout) + CLAIM_SLACK
            return work.webhook_deliveries.claim(
                work.now,
                until=work.now + lasting,
                failing=failing,
                per_endpoint=per_endpoint,
                limit=limit,
                excluded=excluded,
            )

        return [
            Claim(
                delivery_id=row.id,
                endpoint_id=row.endpoint_id,
                position=row.position,
                number=row.attempts,
            )
            for row in self._database.run(take)
        ]

    def attempt(self, claim: Claim) -> None:
        """Send a message once and record what came of it."""
        with self._database.read() as work:
            endpoint = work.webhook_endpoints.get(claim.endpoint_id)
            found = self._events.read_all(
                after_position=claim.position - 1, as_written=True, work=work, batch=1
            )
            event = next(found, None)
        if endpoint is None:
            return
        sent_at = self._clock()
        if event is None or event.position != claim.position:
            answer = Answer(error="the event is no longer in the log")
        else:
            answer = self._send(endpoint, event, sent_at)
        self._database.run(lambda work: self._record(work, claim, sent_at, answer), idempotent=True)

    def _send(self, endpoint: WebhookEndpoint, event: RecordedEvent, sent_at: datetime) -> Answer:
        try:
            body = body_of(self._events.upcasters.apply(event))
        except Exception as error:  # noqa: BLE001 - upcasters are the application's
            # No message: it may tell of what the event says.
            why = f"the event cannot be brought up to date: {type(error).__name__}"
            return Answer(error=why)
        try:
            key = self._secrets.of(endpoint)
        except RootStreamError as error:
            # Counted like any other failure: it ends, and operators see it in the log.
            return Answer(error=f"the signing secret cannot be opened: {error.code}")
        headers = headers_for(key, message_id(event.event_id), sent_at, body)
        return self._transport.post(target_of(endpoint.url), headers, body)

    def _record(self, work: UnitOfWork, claim: Claim, sent_at: datetime, answer: Answer) -> None:
        # The endpoint first, as whoever removes it does.
        endpoint = work.webhook_endpoints.lock(claim.endpoint_id)
        delivery = work.webhook_deliveries.lock(claim.delivery_id)
        attempt = (claim.delivery_id, claim.number)
        if endpoint is None or delivery is None or work.webhook_attempts.get(attempt) is not None:
            return
        work.webhook_attempts.add(
            WebhookAttempt(
                delivery_id=claim.delivery_id,
                number=claim.number,
                attempted_at=sent_at,
                duration_ms=answer.duration_ms,
                status=answer.status,
                error=answer.error and answer.error[:MAX_REASON],
            )
        )
        if answer.error is None:
            _succeed(delivery, endpoint, work.now)
        else:
            endpoint.failing_since = endpoint.failing_since or work.now
            # A later attempt may be under way: then its answer decides.
            if delivery.state is DeliveryState.PENDING and delivery.attempts == claim.number:
                self._put_off(delivery, answer, work.now)
            self._give_up(work, endpoint, answer)

    def _put_off(self, delivery: WebhookDelivery, answer: Answer, now: datetime) -> None:
        pause = self._schedule.delay_after(
            delivery.attempts - delivery.attempts_before,
            chance=random.random(),
            asked=retry_after(answer.retry_after, now),
        )
        if pause is None or answer.is_gone:
            delivery.state = DeliveryState.DEAD
            delivery.finished_at = now
        else:
            delivery.next_attempt_at = now + pause

    def _give_up(self, work: UnitOfWork, endpoint: WebhookEndpoint, answer: Answer) -> None:
        since = endpoint.failing_since
        if answer.is_gone:
            self._journal.disable(work, endpoint, "it answered 410: gone")
        elif since is not None and work.now - since >= self._settings.disable_after:
            reason = f"it failed since {since.isoformat(timespec='seconds')}: {answer.error}"
            self._journal.disable(work, endpoint, reason)


def _succeed(delivery: WebhookDelivery, endpoint: WebhookEndpoint, now: datetime) -> None:
    endpoint.failing_since = None
    if delivery.state is DeliveryState.PENDING:
        delivery.state = DeliveryState.DELIVERED
        delivery.finished_at = now
