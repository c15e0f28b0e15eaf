"""``rootstream-db doctor``: is everything there, reachable and in step?"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import typer

from rootstream_db.cli.exit_codes import ExitCode, exit_code_for
from rootstream_db.cli.invocation import Invocation, command
from rootstream_db.cli.output import one_line
from rootstream_db.errors import RootStreamError

if TYPE_CHECKING:
    from rootstream_db.rootstream import RootStream

MAX_CLOCK_SKEW = 1.0
"""Seconds between this machine's clock and PostgreSQL's that leases still tolerate well."""


@dataclass(frozen=True)
class Diagnosis:
    """What one examination found."""

    check: str
    state: Literal["ok", "warning", "error"]
    finding: str


def register(app: typer.Typer) -> None:
    """Add the command to the front door."""
    command(app)(doctor)


def doctor(invocation: Invocation) -> ExitCode | None:
    """Examine Python, servers, schema, clocks, files and media programs; exit 0, 3 or 75."""
    found = list(_machine())
    with invocation.rootstream(check_schema=False) as rootstream:
        found += [_examine(name, look, rootstream) for name, look in _EXAMINATIONS.items()]
    rows = [asdict(diagnosis) for diagnosis in found]
    invocation.output.table("diagnoses", rows, empty="nothing was examined")
    for diagnosis in found:
        if diagnosis.state != "ok":
            invocation.output.warn(f"{diagnosis.check}: {diagnosis.finding}")
    states = {diagnosis.state for diagnosis in found}
    if "error" in states:
        return ExitCode.TRY_AGAIN
    return ExitCode.DEGRADED if "warning" in states else None


def _machine() -> Iterator[Diagnosis]:
    yield Diagnosis("python", "ok", f"{platform.python_version()} on {platform.system()}")
    from rootstream_db.embedded import find_postgres

    try:
        binaries = find_postgres()
        yield Diagnosis("embedded PostgreSQL", "ok", f"{binaries.version} can be started")
    except RootStreamError as error:
        yield Diagnosis("embedded PostgreSQL", "ok", f"not available: {one_line(str(error))}")
    for program in ("nginx", "ffmpeg"):
        path = shutil.which(program)
        yield Diagnosis(program, "ok", "installed" if path else "not installed (optional)")


def _examine(name: str, look: Callable[[RootStream], Diagnosis], rs: RootStream) -> Diagnosis:
    try:
        return look(rs)
    except RootStreamError as error:
        degraded = exit_code_for(error) is ExitCode.DEGRADED
        return Diagnosis(name, "warning" if degraded else "error", one_line(str(error)))


def _postgres(rs: RootStream) -> Diagnosis:
    ping = rs.database.ping()
    finding = f"{ping.server_version}, answers in {ping.latency_seconds * 1000:.1f} ms"
    if ping.read_only:
        return Diagnosis("postgres", "warning", f"{finding}, but is a read-only standby")
    return Diagnosis("postgres", "ok", finding)


def _schema(rs: RootStream) -> Diagnosis:
    from rootstream_db import schema

    revision = schema.check(rs.settings.database)
    return Diagnosis("schema", "ok", f"at {revision}")


def _clock(rs: RootStream) -> Diagnosis:
    skew = abs(rs.streams.clock_skew().total_seconds())
    finding = f"{skew * 1000:.0f} ms from PostgreSQL's"
    return Diagnosis("clock", "ok" if skew <= MAX_CLOCK_SKEW else "warning", finding)


def _partitions(rs: RootStream) -> Diagnosis:
    status = rs.partitions.status()
    stray = sum(table.default_rows for table in status)
    if stray:
        return Diagnosis("partitions", "warning", f"{stray} rows lie in default partitions")
    return Diagnosis("partitions", "ok", "made ahead of time")


def _event_archive(rs: RootStream) -> Diagnosis:
    archives, damaged = rs.event_archive.archives(), rs.event_archive.missing()
    if damaged:
        first = damaged[0].file_name
        finding = f"{len(damaged)} of {len(archives)} files are missing or cut, first {first}"
        return Diagnosis("event archive", "warning", finding)
    return Diagnosis("event archive", "ok", f"{len(archives)} files of old events, all there")


def _access(rs: RootStream) -> Diagnosis:
    settings = rs.settings.access
    named = {"everyone_role": settings.everyone_role, "owner_role": settings.owner_role}
    with rs.database.read() as work:
        known = {role.name for role in work.roles.list_all()}
    for setting, role in named.items():
        if role and role not in known:
            finding = f"access.{setting} names {role!r}, which is no role: it gives nothing"
            return Diagnosis("access", "warning", finding)
    return Diagnosis("access", "ok", f"{len(known)} roles")


def _redis(rs: RootStream) -> Diagnosis:
    ping = rs.cache.ping()
    finding = f"{ping.server_version}, answers in {ping.latency_seconds * 1000:.1f} ms"
    return Diagnosis("redis", "ok", finding)


_EXAMINATIONS: dict[str, Callable[[RootStream], Diagnosis]] = {
    "postgres": _postgres,
    "schema": _schema,
    "clock": _clock,
    "partitions": _partitions,
    "event archive": _event_archive,
    "access": _access,
    "redis": _redis,
}
