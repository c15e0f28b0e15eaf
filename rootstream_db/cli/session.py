"""``rootstream-db session``: who is logged in, and how that ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rootstream_db.cli.exit_codes import ExitCode
from rootstream_db.cli.invocation import Invocation, command
from rootstream_db.cli.user import Login, find_user
from rootstream_db.errors import NotFoundError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootstream_db.models import UserSession
    from rootstream_db.rootstream import RootStream
    from rootstream_db.services.sessions import RevocationResult

app = typer.Typer(help="List and end login sessions.", no_args_is_help=True)


@command(app, "list")
def list_sessions(invocation: Invocation, login: Login) -> None:
    """List the sessions of an account that hold, the one seen last first."""
    with invocation.rootstream() as rootstream, rootstream.database.read() as work:
        found = rootstream.sessions.list_for_user(work, find_user(work, login))
    rows = [_facts(session) for session in found]
    invocation.output.table("sessions", rows, empty="nobody is logged in")


@command(app)
def revoke(
    invocation: Invocation,
    ids: Annotated[list[int] | None, typer.Argument(help="Sessions, as list shows them.")] = None,
    *,
    user: Annotated[str | None, typer.Option(help="All sessions of that account.")] = None,
    everybody: Annotated[
        str | None,
        typer.Option(
            metavar="REASON", help="All sessions of all accounts, as after a restore; say why."
        ),
    ] = None,
) -> ExitCode:
    """End sessions: some, all of one account, or all there are; status 3 if Redis missed it."""
    if sum(given is not None for given in (ids or None, user, everybody)) != 1:
        raise ValidationError("name sessions, or --user, or --everybody: one of them", field="ids")
    with invocation.rootstream() as rootstream:
        if everybody is not None:
            results = [rootstream.sessions.invalidate_all(everybody)]
        elif user is not None:
            results = [_revoke_user(rootstream, user)]
        else:
            results = [_revoke_one(rootstream, one) for one in ids or ()]
    return _report(invocation, results)


@command(app)
def cleanup(invocation: Invocation) -> None:
    """Delete sessions that ran out, and tell Redis what it missed; for cron."""
    with invocation.rootstream() as rootstream:
        deleted = rootstream.sessions.delete_expired()
    invocation.output.result({"deleted": deleted}, f"{deleted} sessions deleted")


def _revoke_user(rootstream: RootStream, login: str) -> RevocationResult:
    with rootstream.transaction() as work:
        user = find_user(work, login)
        return rootstream.sessions.revoke_all_for_user(work, user, reason="admin")


def _revoke_one(rootstream: RootStream, session_id: int) -> RevocationResult:
    result = rootstream.sessions.revoke(session_id, reason="admin")
    if not result.revoked:
        raise NotFoundError("open session", session_id)
    return result


def _report(invocation: Invocation, results: Sequence[RevocationResult]) -> ExitCode:
    revoked = sum(result.revoked for result in results)
    effective_by = max(result.effective_by for result in results)
    immediate = all(result.immediate for result in results)
    until = effective_by.isoformat(timespec="seconds")
    facts = {"revoked": revoked, "immediate": immediate, "effective_by": until}
    if immediate:
        invocation.output.result(facts, f"{revoked} sessions ended")
        return ExitCode.OK
    untold = f"Redis could not be told: some processes may accept what they know until {until}"
    invocation.output.result(facts, f"{revoked} sessions ended. {untold}")
    invocation.output.warn(untold)
    return ExitCode.DEGRADED


def _facts(session: UserSession) -> dict[str, Any]:
    return {
        "id": session.id,
        "device": session.device_label or session.user_agent,
        "ip_address": session.last_ip_address,
        "location": session.location,
        "level": session.level.name,
        "created_at": session.created_at.isoformat(timespec="seconds"),
        "last_seen_at": session.last_seen_at.isoformat(timespec="seconds"),
        "expires_at": session.idle_expires_at.isoformat(timespec="seconds"),
    }
