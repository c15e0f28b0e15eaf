"""``rootstream-db config``: what is configured, where it came from, what is doubtful about it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import typer

from rootstream_db.cli.exit_codes import ExitCode
from rootstream_db.cli.invocation import Invocation, command
from rootstream_db.errors import ConfigurationError, Severity

app = typer.Typer(help="Show and check the configuration.", no_args_is_help=True)


@command(app)
def show(invocation: Invocation) -> None:
    """Show every setting with its source; secrets are masked."""
    from rootstream_db.settings import listing

    rows = [
        {"setting": line.name, "value": line.value, "source": line.source}
        for line in listing(invocation.settings)
    ]
    invocation.output.table("settings", rows, empty="no settings")


@command(app)
def check(invocation: Invocation) -> ExitCode | None:
    """List findings; exit 78 when one of them is severe, 3 when one deserves a look."""
    from rootstream_db.settings import findings

    rows = [*_missing_servers(invocation), *map(asdict, findings(invocation.settings))]
    invocation.output.table("findings", rows, empty="nothing to remark")
    severities = {row["severity"] for row in rows}
    if severities & {Severity.HIGH, Severity.CRITICAL}:
        return ExitCode.BAD_CONFIGURATION
    return ExitCode.DEGRADED if Severity.MEDIUM in severities else None


def _missing_servers(invocation: Invocation) -> list[dict[str, Any]]:
    try:
        invocation.settings.require_servers()
    except ConfigurationError as error:
        row = {"id": "no-servers", "severity": error.severity, "category": "schema"}
        return [{**row, "setting": error.setting, "message": str(error), "advice": "set one"}]
    return []
