"""``rootstream-db config``: what is configured, where it came from, what is doubtful about it."""

from __future__ import annotations

from typing import Any

import typer
from pydantic import SecretStr

from rootstream_db.cli.exit_codes import ExitCode
from rootstream_db.cli.invocation import Invocation, command
from rootstream_db.settings import Settings, findings

app = typer.Typer(help="Show and check the configuration.", no_args_is_help=True)


@command(app)
def show(invocation: Invocation) -> None:
    """Show every setting with its source; secrets are masked."""
    settings = invocation.settings
    rows = [
        {"setting": name, "value": _masked(_value(settings, name)), "source": source}
        for name, source in settings.sources.items()
    ]
    invocation.output.table("settings", rows, empty="no settings")


@command(app)
def check(invocation: Invocation) -> ExitCode | None:
    """List findings; exit 78 when one of them is an error, 3 when one is a warning."""
    invocation.settings.require_servers()
    found = findings(invocation.settings)
    rows = [
        {
            "id": finding.id,
            "severity": str(finding.severity),
            "category": finding.category,
            "setting": finding.setting,
            "message": finding.message,
            "advice": finding.advice,
        }
        for finding in found
    ]
    invocation.output.table("findings", rows, empty="nothing to remark")
    severities = {str(finding.severity) for finding in found}
    if severities & {"high", "critical"}:
        return ExitCode.BAD_CONFIGURATION
    return ExitCode.DEGRADED if "medium" in severities else None


def _value(settings: Settings, name: str) -> Any:
    value: Any = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _masked(value: Any) -> str | None:
    if isinstance(value, tuple):
        return ", ".join(str(_masked(item)) for item in value)
    if isinstance(value, SecretStr):
        return "********"
    return None if value is None else str(value)
