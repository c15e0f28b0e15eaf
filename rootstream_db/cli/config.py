"""``rootstream-db config``: what is configured, where it came from, what is doubtful about it."""

from __future__ import annotations

import typer

from rootstream_db.cli.exit_codes import ExitCode
from rootstream_db.cli.invocation import Invocation, command

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
    """List findings; exit 78 when one of them is an error, 3 when one is a warning."""
    from rootstream_db.settings import findings

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
