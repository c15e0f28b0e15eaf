"""Where webhooks are found: endpoints, what is due to them, and what every attempt met."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select, true, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from sqlalchemy.sql.selectable import LateralFromClause

from rootstream_db.models.events import EventLogHead
from rootstream_db.models.webhooks import (
    DeliveryState,
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookRelay,
)
from rootstream_db.repositories.base import Repository
from rootstream_db.repositories.events import DEFAULT_LOG


class WebhookRelayRepository:
    """How far the relay has read the log."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def hold_still(self) -> int:
        """Keep the relay where it is until the transaction ends; return the end of the log.

        Several transactions can hold it at once. The relay starts at the end of the log when it is
        held for the first time.
        """
        end = select(EventLogHead.log_id, EventLogHead.last_position).where(
            EventLogHead.log_id == DEFAULT_LOG
        )
        begin = insert(WebhookRelay).from_select(["log_id", "last_position"], end)
        self.session.execute(begin.on_conflict_do_nothing())
        self.session.execute(
            select(WebhookRelay.last_position)
            .where(WebhookRelay.log_id == DEFAULT_LOG)
            .with_for_update(read=True)
        )
        # Asked last: what commits from here on is relayed after this transaction.
        position: int = self.session.execute(end).one().last_position
        return position

    def get_position(self) -> int | None:
        """Return the last position relayed; None if nothing was ever to be relayed."""
        return self.session.scalar(
            select(WebhookRelay.last_position).where(WebhookRelay.log_id == DEFAULT_LOG)
        )

    def take(self) -> int | None:
        """Return the last position relayed, locked; None if another relay is at work, or none."""
        query = select(WebhookRelay.last_position).where(WebhookRelay.log_id == DEFAULT_LOG)
        return self.session.scalar(query.with_for_update(skip_locked=True))

    def move(self, position: int) -> None:
        """Remember that everything up to the position is relayed."""
        query = update(WebhookRelay).where(WebhookRelay.log_id == DEFAULT_LOG)
        self.session.execute(query.values(last_position=position))


class WebhookEndpointRepository(Repository[WebhookEndpoint]):
    """Addresses that are told of events."""

    model = WebhookEndpoint

    def list_all(self) -> Sequence[WebhookEndpoint]:
        """Return all endpoints, oldest first."""
        return self.session.scalars(select(WebhookEndpoint).order_by(WebhookEndpoint.id)).all()

    def list_by_owner(self, owner_id: int) -> Sequence[WebhookEndpoint]:
        """Return the endpoints of an account, oldest first."""
        query = select(WebhookEndpoint).where(WebhookEndpoint.owner_id == owner_id)
        return self.session.scalars(query.order_by(WebhookEndpoint.id)).all()

    def keep_enabled(self) -> Sequence[WebhookEndpoint]:
        """Return the endpoints that are told of events; none goes until the transaction ends."""
        query = select(WebhookEndpoint).where(WebhookEndpoint.enabled).order_by(WebhookEndpoint.id)
        return self.session.scalars(query.with_for_update(read=True, key_share=True)).all()

    def lock(self, endpoint_id: int) -> WebhookEndpoint | None:
        """Return the endpoint, locked until the transaction ends, or None if it is gone."""
        query = select(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id)
        return self.session.scalar(
            query.with_for_update(key_share=True).execution_options(populate_existing=True)
        )


class WebhookDeliveryRepository(Repository[WebhookDelivery]):
    """Messages on their way."""

    model = WebhookDelivery

    def add_all(self, deliveries: Sequence[dict[str, Any]]) -> None:
        """Insert many at once, each a mapping of columns."""
        if deliveries:
            self.session.execute(insert(WebhookDelivery), deliveries)

    def claim(
        self,
        now: datetime,
        *,
        until: datetime,
        failing: bool,
        per_endpoint: int,
        limit: int,
        excluded: Collection[int] = (),
    ) -> Sequence[WebhookDelivery]:
        """Take messages that are due and count the attempt; nobody else gets them ``until`` then.

        Args:
            now: what is due by then.
            until: when the claim of a deliverer that died runs out.
            failing: take those of endpoints whose last answer was a failure, or of all others.
            per_endpoint: most messages of one endpoint.
            limit: most messages.
            excluded: endpoints to leave alone.
        """
        due = _due(now, per_endpoint)
        since = WebhookEndpoint.failing_since
        chosen = (
            select(due.c.id)
            .select_from(WebhookEndpoint)
            .join(due, true())
            .where(WebhookEndpoint.enabled, since.is_not(None) if failing else since.is_(None))
            .where(WebhookEndpoint.id.not_in(excluded))
            .order_by(due.c.next_attempt_at)
            .limit(limit)
            .cte("chosen")
        )
        claiming = (
            update(WebhookDelivery)
            .where(WebhookDelivery.id == chosen.c.id)
            .values(attempts=WebhookDelivery.attempts + 1, next_attempt_at=until)
            .returning(WebhookDelivery)
            .execution_options(synchronize_session=False, populate_existing=True)
        )
        return self.session.scalars(claiming).all()

    def lock(self, delivery_id: int) -> WebhookDelivery | None:
        """Return the message, locked until the transaction ends, or None if it is gone."""
        query = select(WebhookDelivery).where(WebhookDelivery.id == delivery_id)
        return self.session.scalar(
            query.with_for_update(key_share=True).execution_options(populate_existing=True)
        )

    def list_of_endpoint(
        self,
        endpoint_id: int,
        *,
        state: DeliveryState | None = None,
        before_position: int | None = None,
        limit: int = 100,
    ) -> Sequence[WebhookDelivery]:
        """Return an endpoint's messages, latest event first."""
        query = select(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint_id)
        if state is not None:
            query = query.where(WebhookDelivery.state == state)
        if before_position is not None:
            query = query.where(WebhookDelivery.position < before_position)
        return self.session.scalars(
            query.order_by(WebhookDelivery.position.desc()).limit(limit)
        ).all()

    def revive_dead(self, endpoint_id: int, now: datetime) -> int:
        """Make all dead messages of an endpoint due anew; return how many."""
        query = (
            update(WebhookDelivery)
            .where(
                WebhookDelivery.endpoint_id == endpoint_id,
                WebhookDelivery.state == DeliveryState.DEAD,
            )
            .values(
                state=DeliveryState.PENDING,
                attempts_before=WebhookDelivery.attempts,
                next_attempt_at=now,
                finished_at=None,
            )
            .returning(WebhookDelivery.id)
            .execution_options(synchronize_session="fetch")
        )
        return len(self.session.scalars(query).all())

    def get_oldest_due(self, now: datetime) -> datetime | None:
        """Return since when a message waits for a deliverer, of endpoints that are enabled."""
        query = (
            select(func.min(WebhookDelivery.next_attempt_at))
            .join(WebhookEndpoint, WebhookEndpoint.id == WebhookDelivery.endpoint_id)
            .where(
                WebhookEndpoint.enabled,
                WebhookDelivery.state == DeliveryState.PENDING,
                WebhookDelivery.next_attempt_at <= now,
            )
        )
        return self.session.scalar(query)

    def count_by_state(self, endpoint_id: int) -> dict[DeliveryState, int]:
        """Return how many messages of an endpoint are in each state."""
        query = select(WebhookDelivery.state, func.count()).where(
            WebhookDelivery.endpoint_id == endpoint_id
        )
        rows = self.session.execute(query.group_by(WebhookDelivery.state))
        return {state: number for state, number in rows}  # noqa: C416 - dict() loses the types

    def delete_finished(self, before: datetime, *, limit: int = 1000) -> int:
        """Forget messages that were delivered or given up before then; return how many."""
        old = (
            select(WebhookDelivery.id)
            .where(WebhookDelivery.finished_at < before)
            .order_by(WebhookDelivery.finished_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        query = delete(WebhookDelivery).where(WebhookDelivery.id.in_(old))
        options = {"synchronize_session": False}
        returned = query.returning(WebhookDelivery.id).execution_options(**options)
        return len(self.session.scalars(returned).all())


class WebhookAttemptRepository(Repository[WebhookAttempt]):
    """What every attempt met."""

    model = WebhookAttempt

    def list_of_delivery(self, delivery_id: int) -> Sequence[WebhookAttempt]:
        """Return the attempts of one message, first to last."""
        query = select(WebhookAttempt).where(WebhookAttempt.delivery_id == delivery_id)
        return self.session.scalars(query.order_by(WebhookAttempt.number)).all()


def _due(now: datetime, per_endpoint: int) -> LateralFromClause:
    """Return the query of one endpoint's messages that are due and that nobody else looks at."""
    return (
        select(WebhookDelivery.id, WebhookDelivery.next_attempt_at)
        .where(
            WebhookDelivery.endpoint_id == WebhookEndpoint.id,
            WebhookDelivery.state == DeliveryState.PENDING,
            WebhookDelivery.next_attempt_at <= now,
        )
        .order_by(WebhookDelivery.next_attempt_at)
        .limit(per_endpoint)
        .with_for_update(skip_locked=True)
        .correlate(WebhookEndpoint)
        .lateral("due")
    )
