"""``rootstream-db security``: what happened that bears on security; letting networks in again."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rootstream_db.cli.invocation import Invocation, command
from rootstream_db.cli.user import find_user
from rootstream_db.models import RiskLevel, SecurityEventKind

if TYPE_CHECKING:
    from rootstream_db.models import SecurityEvent

app = typer.Typer(help="Show security events, let networks in again.", no_args_is_help=True)


@command(app)
def events(
    invocation: Invocation,
    *,
    login: Annotated[str | None, typer.Option("--user", help="Of this account alone.")] = None,
    risk: Annotated[RiskLevel, typer.Option(help="Least risk to show.")] = RiskLevel.MEDIUM,
    kind: Annotated[SecurityEventKind | None, typer.Option(help="Of this kind alone.")] = None,
    hours: Annotated[float, typer.Option(min=0, help="How far back to look.")] = 168,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 100,
) -> None:
    """List security events, newest first."""
    with invocation.rootstream() as rootstream:
        user_id = None
        if login is not None:
            with rootstream.database.read() as work:
                user_id = find_user(work, login).id
        found = rootstream.security.list_events(
            user_id=user_id,
            risk=risk,
            kind=kind,
            since=rootstream.clock() - timedelta(hours=hours),
            limit=limit,
        )
    invocation.output.table("events", [_facts(event) for event in found], empty="all quiet")


@command(app)
def unblock(
    invocation: Invocation,
    address: Annotated[str, typer.Argument(help="An IP address of the network.")],
) -> None:
    """Let a network log in again that is blocked or slowed down."""
    with invocation.rootstream() as rootstream:
        network = rootstream.login_monitor.let_in(address)
    invocation.output.result({"network": network}, f"{network} may log in again")


def _facts(event: SecurityEvent) -> dict[str, Any]:
    reason = event.details.get("reason")
    others = {name: value for name, value in event.details.items() if name != "reason"}
    return {
        "at": event.occurred_at.isoformat(timespec="seconds"),
        "risk": event.risk.value,
        "kind": event.kind.value,
        "user_id": event.user_id,
        "ip_address": event.ip_address,
        "details": reason or ", ".join(f"{name} {value}" for name, value in others.items()),
    }
