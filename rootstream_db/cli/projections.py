"""``rootstream-db events project|projections|rebuild|skip|replay``: what events add up to."""

from __future__ import annotations

import signal
import threading
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rootstream_db.cli.exit_codes import ExitCode
from rootstream_db.cli.invocation import Invocation, command
from rootstream_db.cli.logs import write_logs
from rootstream_db.errors import RootStreamError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootstream_db.rootstream import RootStream
    from rootstream_db.services.event_store import RecordedEvent
    from rootstream_db.services.projections import ProjectionRun, ProjectionStatus

_Seen = tuple[dict[str, Any], str | None]
"""What the events of an aggregate said, key by key, and the type of the last one."""

_WRONG = ("failed", "diverged")

Name = Annotated[str, typer.Argument(help="Name, as `events projections` shows it.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the group ``events``."""
    command(app)(project)
    command(app)(projections)
    command(app)(rebuild)
    command(app)(skip)
    command(app)(replay)


def project(
    invocation: Invocation,
    names: Annotated[list[str] | None, typer.Argument(help="Which ones; all by default.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow/--once", help="Go on until stopped, or to the end of the log.")
    ] = False,
) -> ExitCode:
    """Bring projections up to date; exit with 3 if one cannot go on, 11 if others work on all."""
    with invocation.rootstream() as rootstream:
        if follow:
            _follow(invocation, rootstream, names or [])
            return ExitCode.OK
        runs = rootstream.projections.run_once(*names or [])
    invocation.output.table("projections", [_run(run) for run in runs], empty="no projections")
    return _exit_code(runs)


def projections(invocation: Invocation) -> ExitCode:
    """Show how projections stand; exit with 3 if one cannot go on."""
    with invocation.rootstream() as rootstream:
        found = rootstream.projections.status()
    as_json = invocation.output.as_json
    rows = [_plain(asdict(one)) if as_json else _status(one) for one in found]
    invocation.output.table("projections", rows, empty="no projections")
    wrong = any(one.state in _WRONG for one in found)
    return ExitCode.DEGRADED if wrong else ExitCode.OK


def rebuild(
    invocation: Invocation,
    name: Name,
    anew: Annotated[
        bool, typer.Option("--anew", help="Begin again even if a rebuild is under way.")
    ] = False,
) -> ExitCode:
    """Make a read model anew from the first event; run again to go on after an interruption."""
    with invocation.rootstream() as rootstream:
        total = rootstream.events.head().last_position
        reached = 0
        with invocation.output.progress(f"rebuilding {name}", total) as advance:

            def show(position: int, _target: int) -> None:
                nonlocal reached
                advance(position - reached)
                reached = position

            run = rootstream.projections.rebuild(name, anew=anew, progress=show)
    invocation.output.result(_run(run))
    return _exit_code([run])


def skip(
    invocation: Invocation,
    name: Name,
    position: Annotated[int, typer.Argument(min=1, help="Position of the event that stops it.")],
    reason: Annotated[str, typer.Option(help="Why it may be left out; this is recorded.")],
) -> None:
    """Leave out the event that stops a projection."""
    with invocation.rootstream() as rootstream:
        rootstream.projections.skip(name, position, reason=reason)
    facts = {"name": name, "skipped": position}
    invocation.output.result(facts, f"{name} goes on after event {position}")


def replay(
    invocation: Invocation,
    *,
    aggregate_type: Annotated[str, typer.Argument(help="Such as Stream or User.")],
    aggregate_id: Annotated[str, typer.Argument(help="Id of the aggregate.")],
    at_version: Annotated[int | None, typer.Option(min=0, help="As of this version.")] = None,
    at_time: Annotated[
        str | None, typer.Option(help="As of this moment (ISO 8601, with a time zone).")
    ] = None,
) -> ExitCode:
    """Show what the events of an aggregate said last, key by key, now or at a past moment."""
    moment = _moment(at_time)
    with (
        invocation.rootstream() as rootstream,
        invocation.output.progress("replaying", at_version) as advance,
    ):

        def apply(state: _Seen, event: RecordedEvent) -> _Seen:
            advance()
            return {**state[0], **event.data}, event.event_type

        # A tuple is no JSON object: no snapshot with other rules is taken for a beginning.
        nothing: _Seen = ({}, None)
        replayed = rootstream.events.replay(
            aggregate_type, aggregate_id, apply, nothing, to_version=at_version, to_time=moment
        )
    state, last_event = replayed.state
    invocation.output.result(
        {
            "aggregate": f"{aggregate_type}/{aggregate_id}",
            "version": replayed.version,
            "last_event": last_event,
            "state": state,
        }
    )
    return ExitCode.OK if replayed.version else ExitCode.TARGET_MISSING


def _follow(invocation: Invocation, rootstream: RootStream, names: Sequence[str]) -> None:
    write_logs(invocation.settings.logging)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    shown = ", ".join(names or rootstream.projections.names)
    invocation.output.say(f"projecting {shown} until stopped")
    rootstream.projections.run(*names, stop=stop)


def _run(run: ProjectionRun) -> dict[str, Any]:
    return {
        "name": run.name,
        "outcome": run.outcome.value,
        "events": run.events,
        "position": run.position,
        "error": None if run.error is None else _described(run.error),
    }


def _status(status: ProjectionStatus) -> dict[str, Any]:
    return {
        "name": status.name,
        "state": status.state.value,
        "position": status.position,
        "lag_events": status.lag_events,
        "lag_seconds": round(status.lag_seconds, 1),
        "owner": status.owner,
        "failed_position": status.failed_position,
        "attempts": status.attempts,
        "error": status.last_error,
    }


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in facts.items()
    }


def _described(error: Exception) -> str:
    return str(error) if isinstance(error, RootStreamError) else f"{type(error).__name__}: {error}"


def _exit_code(runs: Sequence[ProjectionRun]) -> ExitCode:
    outcomes = [run.outcome.value for run in runs]
    if any(outcome in _WRONG for outcome in outcomes):
        return ExitCode.DEGRADED
    all_busy = bool(outcomes) and set(outcomes) == {"busy"}
    return ExitCode.NOT_LOCKED if all_busy else ExitCode.OK


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise ValidationError(
            f"{text!r} is no moment: write 2026-01-31T18:00:00+00:00", field="at_time"
        ) from error
