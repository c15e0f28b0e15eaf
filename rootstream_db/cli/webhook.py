"""``rootstream-db webhook``: tell other systems of events, and see what became of it."""

from __future__ import annotations

import signal
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rootstream_db.cli.invocation import Invocation, command
from rootstream_db.cli.logs import write_logs
from rootstream_db.cli.user import find_user
from rootstream_db.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootstream_db.models import (
        DeliveryState,
        WebhookAttempt,
        WebhookDelivery,
        WebhookEndpoint,
    )

app = typer.Typer(help="Tell other systems of events over HTTP.", no_args_is_help=True)

EndpointId = Annotated[int, typer.Argument(help="Id of the endpoint, as `webhook list` shows it.")]


@command(app)
def add(
    invocation: Invocation,
    *,
    url: Annotated[str, typer.Argument(help="https, or http on this machine.")],
    event_type: Annotated[
        list[str] | None, typer.Option(help="A type it is told of, repeatable; default: all.")
    ] = None,
    owner: Annotated[
        str | None, typer.Option(help="Username or e-mail address of the owner.")
    ] = None,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
) -> None:
    """Add an endpoint and print its signing secret, which is shown this once."""
    with invocation.rootstream() as rootstream, rootstream.transaction() as work:
        endpoint, secret = rootstream.webhooks.add(
            work,
            url,
            event_types=event_type or (),
            owner=find_user(work, owner) if owner else None,
            description=description,
        )
    invocation.output.result({**_facts(endpoint), "secret": str(secret)})


@command(app, "list")
def list_endpoints(invocation: Invocation) -> None:
    """List the endpoints and how many messages wait for them or were given up."""
    from rootstream_db.models import DeliveryState

    with invocation.rootstream() as rootstream, rootstream.database.read() as work:
        rows = []
        for endpoint in work.webhook_endpoints.list_all():
            counts = work.webhook_deliveries.count_by_state(endpoint.id)
            states = {state.value: counts.get(state, 0) for state in DeliveryState}
            rows.append({**_facts(endpoint), **states})
    invocation.output.table("endpoints", rows, empty="no endpoints")


@command(app)
def status(invocation: Invocation) -> None:
    """Tell how far relay and deliverers are behind; a worker that runs keeps both near 0."""
    with invocation.rootstream() as rootstream:
        found = rootstream.webhooks.status()
    invocation.output.result(
        {"events_behind": found.events_behind, "seconds_overdue": found.seconds_overdue}
    )


@command(app)
def deliveries(
    invocation: Invocation,
    endpoint_id: EndpointId,
    state: Annotated[
        str | None, typer.Option(help="Only those that are pending, delivered or dead.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 20,
) -> None:
    """List an endpoint's messages, latest event first, with what the last attempt met."""
    wanted = _state(state)
    with invocation.rootstream() as rootstream, rootstream.database.read() as work:
        work.webhook_endpoints.get_one(endpoint_id)
        found = work.webhook_deliveries.list_of_endpoint(endpoint_id, state=wanted, limit=limit)
        rows = [
            _delivery(delivery, work.webhook_attempts.list_of_delivery(delivery.id)[-1:])
            for delivery in found
        ]
    invocation.output.table("deliveries", rows, empty="no messages")


@command(app)
def attempts(
    invocation: Invocation,
    delivery_id: Annotated[int, typer.Argument(help="Id of the message.")],
) -> None:
    """List every attempt to deliver one message."""
    with invocation.rootstream() as rootstream, rootstream.database.read() as work:
        work.webhook_deliveries.get_one(delivery_id)
        rows = [_attempt(one) for one in work.webhook_attempts.list_of_delivery(delivery_id)]
    invocation.output.table("attempts", rows, empty="no attempts")


@command(app)
def redeliver(
    invocation: Invocation,
    delivery_id: Annotated[int | None, typer.Argument(help="Id of one message.")] = None,
    dead_of: Annotated[
        int | None, typer.Option(help="All dead messages of the endpoint with this id.")
    ] = None,
) -> None:
    """Send a message anew, or all that an endpoint never took, under the ids they had."""
    if (delivery_id is None) == (dead_of is None):
        raise ValidationError("name either one message or --dead-of an endpoint")
    with invocation.rootstream() as rootstream, rootstream.transaction() as work:
        number = 1
        if delivery_id is not None:
            rootstream.webhooks.redeliver(work, delivery_id)
        else:
            endpoint = work.webhook_endpoints.get_one(dead_of)
            number = rootstream.webhooks.redeliver_dead(work, endpoint)
    invocation.output.result({"redelivered": number}, f"{number} to be sent anew")


@command(app)
def enable(invocation: Invocation, endpoint_id: EndpointId) -> None:
    """Go on sending to an endpoint that was disabled."""
    with invocation.rootstream() as rootstream, rootstream.transaction() as work:
        endpoint = work.webhook_endpoints.get_one(endpoint_id)
        rootstream.webhooks.enable(work, endpoint)
    invocation.output.result(_facts(endpoint), f"endpoint {endpoint_id} is enabled")


@command(app)
def disable(
    invocation: Invocation,
    endpoint_id: EndpointId,
    reason: Annotated[str, typer.Option(help="Why; `webhook list` shows it.")] = "by an operator",
) -> None:
    """Send nothing more to an endpoint; what waits stays."""
    with invocation.rootstream() as rootstream, rootstream.transaction() as work:
        endpoint = work.webhook_endpoints.get_one(endpoint_id)
        rootstream.webhooks.disable(work, endpoint, reason=reason)
    invocation.output.result(_facts(endpoint), f"endpoint {endpoint_id} is disabled")


@command(app)
def remove(invocation: Invocation, endpoint_id: EndpointId) -> None:
    """Remove an endpoint with all that waits for it."""
    with invocation.rootstream() as rootstream, rootstream.transaction() as work:
        rootstream.webhooks.remove(work, work.webhook_endpoints.get_one(endpoint_id))
    facts = {"id": endpoint_id, "removed": True}
    invocation.output.result(facts, f"endpoint {endpoint_id} is removed")


@command(app)
def run(
    invocation: Invocation,
    once: Annotated[bool, typer.Option(help="Send what is due and end: for cron.")] = False,
) -> None:
    """Follow the log and deliver until stopped; several may run and share the work."""
    from rootstream_db.services.webhooks import WebhookWorker

    write_logs(invocation.settings.logging)
    with invocation.rootstream() as rootstream:
        webhooks = rootstream.webhooks
        if once:
            found = {"relayed": webhooks.relay(), "attempts": webhooks.deliver()}
            webhooks.forget()
            invocation.output.result(found)
            return
        worker = WebhookWorker(webhooks, rootstream.settings.webhooks)
        signal.signal(signal.SIGTERM, lambda *_: worker.stop())
        # Scripts wait for this line: from here on a signal ends it in order.
        invocation.output.result({"running": True}, "delivering webhooks")
        sys.stdout.flush()
        worker.run()


def _state(name: str | None) -> DeliveryState | None:
    from rootstream_db.models import DeliveryState

    try:
        return None if name is None else DeliveryState(name)
    except ValueError:
        raise ValidationError(
            f"state is one of {', '.join(DeliveryState)}", field="state"
        ) from None


def _facts(endpoint: WebhookEndpoint) -> dict[str, Any]:
    return {
        "id": endpoint.id,
        "url": endpoint.url,
        "event_types": endpoint.event_types,
        "state": "enabled" if endpoint.enabled else f"disabled: {endpoint.disabled_reason}",
        "failing_since": _time(endpoint.failing_since),
        "description": endpoint.description,
    }


def _delivery(delivery: WebhookDelivery, last: Sequence[WebhookAttempt]) -> dict[str, Any]:
    is_waiting = delivery.state.value == "pending"
    return {
        "id": delivery.id,
        "position": delivery.position,
        "type": delivery.event_type,
        "state": delivery.state.value,
        "attempts": delivery.attempts,
        "next_attempt_at": _time(delivery.next_attempt_at) if is_waiting else None,
        "last_status": last[0].status if last else None,
        "last_error": last[0].error if last else None,
    }


def _attempt(attempt: WebhookAttempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "attempted_at": _time(attempt.attempted_at),
        "duration_ms": attempt.duration_ms,
        "status": attempt.status,
        "error": attempt.error,
    }


def _time(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None
