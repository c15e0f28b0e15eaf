"""``rootstream-db db``: the schema of the database."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rootstream_db.cli.exit_codes import ExitCode
from rootstream_db.cli.invocation import Invocation, command
from rootstream_db.errors import SchemaError

if TYPE_CHECKING:
    from rootstream_db.services.partitions import PartitionStatus

app = typer.Typer(help="Upgrade and check the schema.", no_args_is_help=True)

Revision = Annotated[str, typer.Option(help="Revision to stop at.")]


@command(app)
def upgrade(
    invocation: Invocation,
    revision: Revision = "head",
    sql: Annotated[
        bool, typer.Option("--sql", help="Print the SQL instead of running it.")
    ] = False,
) -> None:
    """Bring the schema to this release's revision; safe to run from many machines at once."""
    from rootstream_db import schema

    if sql:
        invocation.output.result(
            {"sql": schema.offline_sql(revision)}, schema.offline_sql(revision)
        )
        return
    with invocation.rootstream(check_schema=False) as rootstream:
        database = rootstream.settings.database
        before = schema.current(database)
        after = schema.upgrade(database, revision)
        rootstream.partitions.ensure()
    text = f"the schema is at {after}" + ("" if before == after else f", was at {before or 'none'}")
    invocation.output.result({"before": before, "after": after}, text)


@command(app)
def downgrade(
    invocation: Invocation,
    revision: Annotated[str, typer.Argument(help="Revision to go back to; base drops everything.")],
    yes: Annotated[
        bool, typer.Option("--yes", help="Really drop what later revisions made.")
    ] = False,
) -> ExitCode | None:
    """Take the schema back; data of dropped tables is lost."""
    from rootstream_db import schema

    if not yes:
        invocation.output.messages.print(
            f"going back to {revision} drops tables and their data: repeat with --yes"
        )
        return ExitCode.USAGE
    with invocation.rootstream(check_schema=False) as rootstream:
        after = schema.downgrade(rootstream.settings.database, revision)
    invocation.output.result({"after": after}, f"the schema is at {after or 'none'}")
    return None


@command(app)
def current(invocation: Invocation) -> None:
    """Print the revision the database is at and the one this release needs."""
    from rootstream_db import schema

    with invocation.rootstream(check_schema=False) as rootstream:
        found = schema.current(rootstream.settings.database)
    invocation.output.result({"current": found, "head": schema.head()})


@command(app)
def check(invocation: Invocation) -> ExitCode | None:
    """Say whether the schema fits this release: exit 0 when it does, 3 when it does not."""
    from rootstream_db import schema

    with invocation.rootstream(check_schema=False) as rootstream:
        try:
            found = schema.check(rootstream.settings.database)
        except SchemaError as error:
            facts = {"fits": False, "current": error.current, "head": error.head}
            invocation.output.result(facts, str(error))
            return ExitCode.DEGRADED
    text = f"the schema is at {found}, as this release needs"
    invocation.output.result({"fits": True, "current": found, "head": found}, text)
    return None


@command(app)
def partitions(
    invocation: Invocation,
    keep_days: Annotated[
        int | None, typer.Option(min=1, help="Drop viewer sessions older than this many days.")
    ] = None,
    keep_attempts_days: Annotated[
        int | None,
        typer.Option(min=1, help="Drop attempts at second factors older than this, by month."),
    ] = None,
    keep_security_days: Annotated[
        int | None,
        typer.Option(min=1, help="Drop security events older than this, by month."),
    ] = None,
) -> ExitCode | None:
    """Make time partitions ahead, drop old ones if asked, and show how they stand; for cron."""
    from rootstream_db.services.partitions import MFA_ATTEMPTS, SECURITY_EVENTS, VIEWER_SESSIONS

    with invocation.rootstream() as rootstream:
        rootstream.partitions.ensure()
        for scheme, days in (
            (VIEWER_SESSIONS, keep_days),
            (MFA_ATTEMPTS, keep_attempts_days),
            (SECURITY_EVENTS, keep_security_days),
        ):
            if days is not None:
                first_kept = (rootstream.clock() - timedelta(days=days)).date()
                for name in rootstream.partitions.drop_before(first_kept, table=scheme.table):
                    invocation.output.say(f"dropped {name}")
        status = rootstream.partitions.status()
    rows = [_row(table) for table in status]
    invocation.output.table("partitions", rows, empty="no partitioned tables")
    warnings = [warning for table in status for warning in table.warnings]
    for warning in warnings:
        invocation.output.warn(warning)
    return ExitCode.DEGRADED if warnings else None


def _row(table: PartitionStatus) -> dict[str, Any]:
    return {
        "table": table.table,
        "partitions": table.partitions,
        "covered_until": table.covered_until and f"{table.covered_until:%Y-%m-%d}",
        "default_rows": table.default_rows,
        "warnings": "; ".join(table.warnings),
    }
