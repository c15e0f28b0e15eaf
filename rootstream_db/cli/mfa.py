"""``rootstream-db mfa``: second factors of accounts, for operators and single-box installs."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rootstream_db.cli.invocation import Invocation, command
from rootstream_db.cli.user import Login, find_user
from rootstream_db.errors import NotFoundError, ValidationError

if TYPE_CHECKING:
    from rootstream_db.models import MfaAttempt
    from rootstream_db.rootstream import RootStream
    from rootstream_db.services.mfa import Enrollment, Factor, MfaStatus

app = typer.Typer(help="Enrol, show and reset second factors.", no_args_is_help=True)

Format = Literal["terminal", "svg", "png"]
SHOWN_ATTEMPTS = 10
"""Attempts that ``mfa status`` shows."""


@command(app)
def enroll(
    invocation: Invocation,
    login: Login,
    label: Annotated[str, typer.Option(help="What the device is called.")] = "Authenticator app",
) -> None:
    """Begin to enrol an authenticator app and show its QR code; `mfa confirm` finishes it."""
    with invocation.rootstream() as rootstream, rootstream.transaction() as work:
        enrollment = rootstream.mfa.enroll(work, find_user(work, login), label=label)
        _show(invocation, rootstream, enrollment)


@command(app)
def qr(
    invocation: Invocation,
    login: Login,
    *,
    drawn_as: Annotated[Format, typer.Option("--format", help="How to draw it.")] = "terminal",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File for an SVG or PNG.")
    ] = None,
) -> None:
    """Show the QR code of the latest enrolment again, until it is confirmed or runs out."""
    if (drawn_as == "terminal") != (output is None):
        raise ValidationError("an SVG or PNG goes to a file (--output), a terminal's does not")
    with invocation.rootstream() as rootstream, rootstream.transaction() as work:
        pending = rootstream.mfa.list_enrollments(work, find_user(work, login))
        if not pending:
            raise NotFoundError("enrolment under way", login)
        if output is None or drawn_as == "terminal":
            _show(invocation, rootstream, pending[-1])
            return
        drawn = rootstream.mfa.qr_code(pending[-1].uri, drawn_as)
    _write_privately(output, drawn if isinstance(drawn, bytes) else drawn.encode())
    invocation.output.result({"file": str(output)}, f"written to {output}")


@command(app)
def confirm(
    invocation: Invocation,
    enrollment_id: Annotated[uuid.UUID, typer.Argument(help="What `mfa enroll` showed.")],
) -> None:
    """Finish an enrolment: read the code that the app shows from standard input."""
    code = _line("code")
    with invocation.rootstream() as rootstream, rootstream.transaction() as work:
        factor = rootstream.mfa.confirm(work, enrollment_id, code)
    invocation.output.result(_facts(factor), f"{factor.label} is enrolled")


@command(app)
def status(invocation: Invocation, login: Login) -> None:
    """Show an account's second factors, its locks and the latest attempts."""
    with invocation.rootstream() as rootstream, rootstream.transaction(read_only=True) as work:
        user = find_user(work, login)
        found = rootstream.mfa.status(work, user)
        devices = len(rootstream.mfa.list_trusted_devices(work, user))
        attempts = rootstream.mfa.list_attempts(work, user, limit=SHOWN_ATTEMPTS)
    facts = _standing(found) | {
        "trusted_devices": devices,
        "attempts": [_tried(attempt) for attempt in attempts],
    }
    invocation.output.result(facts, _told(facts))


@command(app)
def reset(
    invocation: Invocation,
    login: Login,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do it: there is no way back.")] = False,
) -> None:
    """Remove all second factors of an account whose owner lost them; its sessions end."""
    if not yes:
        raise ValidationError(
            "whoever knows the password gets in without a second factor afterwards: "
            "make sure who is asking, then add --yes"
        )
    with invocation.rootstream() as rootstream, rootstream.transaction() as work:
        removed = rootstream.mfa.reset(work, find_user(work, login))
    invocation.output.result({"removed": removed}, f"{removed} second factors removed")


@command(app, "delete-expired")
def delete_expired(invocation: Invocation) -> None:
    """Delete enrolments, challenges and trusted devices that ran out; for cron."""
    deleted = 0
    with invocation.rootstream() as rootstream:
        while found := rootstream.run(rootstream.mfa.delete_expired):
            deleted += found
    invocation.output.result({"deleted": deleted}, f"{deleted} rows deleted")


def _show(invocation: Invocation, rootstream: RootStream, enrollment: Enrollment) -> None:
    facts = {
        "enrollment_id": str(enrollment.id),
        "label": enrollment.label,
        "secret": str(enrollment.secret),
        "uri": str(enrollment.uri),
        "expires_at": enrollment.expires_at.isoformat(timespec="seconds"),
    }
    drawn = rootstream.mfa.qr_code(enrollment.uri, "terminal")
    text = (
        f"{drawn}\nor type this into the app: {enrollment.secret}\n"
        f"then, within the next minutes: rootstream-db mfa confirm {enrollment.id}"
    )
    invocation.output.result(facts, text)


def _write_privately(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read: it holds a secret."""
    try:
        path.touch(mode=0o600, exist_ok=False)
        path.write_bytes(content)
    except OSError as error:
        raise ValidationError(f"{path} cannot be written: {error.strerror}") from error


def _line(what: str) -> str:
    if sys.stdin.isatty():
        sys.stderr.write(f"{what}: ")
        sys.stderr.flush()
    line = sys.stdin.readline().strip()
    if not line:
        raise ValidationError(f"standard input held no {what}", field=what)
    return line


def _facts(factor: Factor) -> dict[str, Any]:
    return {
        "id": str(factor.id),
        "kind": factor.kind.value,
        "label": factor.label,
        "confirmed_at": factor.confirmed_at.isoformat(timespec="seconds"),
        "last_used_at": factor.last_used_at and factor.last_used_at.isoformat(timespec="seconds"),
    }


def _standing(status: MfaStatus) -> dict[str, Any]:
    return {
        "enabled": status.enabled,
        "required": status.required,
        "factors": [_facts(factor) for factor in status.factors],
        "backup_codes_left": status.backup_codes_left,
        "locked_until": {
            method.value: until.isoformat(timespec="seconds")
            for method, until in status.locked_until.items()
        },
        "disabled": [method.value for method in status.disabled],
    }


def _tried(attempt: MfaAttempt) -> dict[str, Any]:
    return {
        "at": attempt.attempted_at.isoformat(timespec="seconds"),
        "method": attempt.method.value,
        "outcome": attempt.outcome.value,
        "ip_address": attempt.ip_address and str(attempt.ip_address),
    }


def _told(facts: dict[str, Any]) -> str:
    lines = [
        f"enabled: {'yes' if facts['enabled'] else 'no'}",
        f"required: {'yes' if facts['required'] else 'no'}",
        *(f"factor: {one['label']} ({one['kind']})" for one in facts["factors"]),
        f"backup codes left: {facts['backup_codes_left']}",
        f"trusted devices: {facts['trusted_devices']}",
        *(f"locked: {method} until {until}" for method, until in facts["locked_until"].items()),
        *(f"disabled: {method}" for method in facts["disabled"]),
        *(
            f"attempt: {one['at']} {one['method']} {one['outcome']} {one['ip_address'] or ''}"
            for one in facts["attempts"]
        ),
    ]
    return "\n".join(line.rstrip() for line in lines)
