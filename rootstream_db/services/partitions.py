"""Time partitions: made ahead of time, dropped when their time is up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Final

from rootstream_db.clock import Clock, utc_now
from rootstream_db.errors import ValidationError
from rootstream_db.models import MfaAttempt, SecurityEvent, UsageLog, ViewerSession
from rootstream_db.repositories.partitions import PartitionRepository
from rootstream_db.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    from rootstream_db.database import Database

OLDEST_RESCUED: Final = timedelta(days=400)
"""Rows in a default partition older than this are a wrong clock's; they stay where they are."""

MOST_AHEAD: Final = 1000
"""Partitions made ahead at most: each one costs every query of its table a little planning."""


class Period(StrEnum):
    """How much time one partition holds."""

    DAY = "day"
    MONTH = "month"

    def start(self, moment: datetime) -> datetime:
        """Return the start of the period, in UTC, that a moment lies in."""
        midnight = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight if self is Period.DAY else midnight.replace(day=1)

    def following(self, start: datetime) -> datetime:
        """Return the start of the next period."""
        longest = timedelta(days=1 if self is Period.DAY else 31)
        return self.start(start + longest)


@dataclass(frozen=True, slots=True)
class Scheme:
    """How a table is partitioned."""

    table: str
    column: str
    period: Period

    def name(self, start: datetime) -> str:
        """Return the name of the partition that begins at ``start``."""
        return f"{self.table}_p{start:{self._form}}"

    def start_of(self, name: str) -> datetime | None:
        """Return where the partition of that name begins, None if it is not one of these."""
        try:
            start = datetime.strptime(name, f"{self.table}_p{self._form}").replace(tzinfo=UTC)
        except ValueError:
            return None
        return start if self.name(start) == name else None

    def ahead(self, now: datetime, count: int) -> Iterator[datetime]:
        """Yield the starts of the previous period, the current one and ``count`` more."""
        start = self.period.start(self.period.start(now) - timedelta(days=1))
        for _ in range(count + 2):
            yield start
            start = self.period.following(start)

    @property
    def _form(self) -> str:
        return "%Y%m%d" if self.period is Period.DAY else "%Y%m"


VIEWER_SESSIONS: Final = Scheme(ViewerSession.__tablename__, "started_at", Period.DAY)
USAGE_LOGS: Final = Scheme(UsageLog.__tablename__, "occurred_at", Period.MONTH)
MFA_ATTEMPTS: Final = Scheme(MfaAttempt.__tablename__, "attempted_at", Period.MONTH)
SECURITY_EVENTS: Final = Scheme(SecurityEvent.__tablename__, "occurred_at", Period.MONTH)
SCHEMES: Final = (VIEWER_SESSIONS, USAGE_LOGS, MFA_ATTEMPTS, SECURITY_EVENTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionStatus:
    """How a table's partitions stand; ``warnings`` say what to do, if anything."""

    table: str
    partitions: int
    covered_until: datetime | None
    default_rows: int
    warnings: tuple[str, ...]


class PartitionManager:
    """Keeps partitions ahead of the clock; for cron, any number of times, on any number of nodes.

    Without it nothing is lost: rows go to the default partition, and ``status`` warns.
    """

    def __init__(self, database: Database, *, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    def ensure(self, *, days_ahead: int = 7, months_ahead: int = 3) -> list[str]:
        """Make the partitions of the days and months to come, and of the previous ones.

        Rows that ended up in a default partition move to where they belong. Callers at the same
        time wait for each other; a table that is locked for longer than 3 seconds is an error to
        try again after.

        Returns:
            The names of the partitions that were made.

        Raises:
            StorageTimeoutError: a table stayed locked.
            ValidationError: a number is negative or too large.
        """
        ahead = {Period.DAY: days_ahead, Period.MONTH: months_ahead}
        if not all(0 <= count <= MOST_AHEAD for count in ahead.values()):
            raise ValidationError(f"partitions are made 0 to {MOST_AHEAD} periods ahead")
        made: list[str] = []
        for scheme in SCHEMES:
            # A transaction a table, so that none is locked longer than it takes.
            made += self._database.run(
                partial(_ensure, scheme=scheme, count=ahead[scheme.period]), idempotent=True
            )
        return made

    def status(self) -> list[PartitionStatus]:
        """Return how each partitioned table stands."""
        with self._database.transaction(read_only=True) as work:
            return [_status(work, scheme) for scheme in SCHEMES]

    def drop_before(self, before: date, *, table: str = VIEWER_SESSIONS.table) -> list[str]:
        """Drop the partitions that hold nothing from ``before`` (00:00 UTC) on.

        Args:
            before: the first day to keep.
            table: viewer sessions unless said otherwise: metered usage is money.

        Returns:
            The names of the partitions that were dropped.

        Raises:
            StorageTimeoutError: the table stayed locked for 3 seconds.
            ValidationError: the table is not partitioned, or ``before`` lies in the future.
        """
        scheme = next((scheme for scheme in SCHEMES if scheme.table == table), None)
        if scheme is None:
            known = ", ".join(scheme.table for scheme in SCHEMES)
            raise ValidationError(f"partitioned are {known}, not {table}", field="table")
        first_kept = datetime(before.year, before.month, before.day, tzinfo=UTC)
        if first_kept > self._clock():
            raise ValidationError("what is still to come cannot be dropped", field="before")
        return self._database.run(
            lambda work: _drop_before(work, scheme, first_kept), idempotent=True
        )


def _ensure(work: UnitOfWork, *, scheme: Scheme, count: int) -> list[str]:
    partitions = PartitionRepository(work.session)
    partitions.take_turn()
    known = set(partitions.list_names(scheme.table))
    strays = partitions.list_periods(scheme.table, scheme.column, scheme.period)
    wanted = set(scheme.ahead(work.now, count)) | set(_rescued(strays, work.now, scheme, count))
    missing = [start for start in sorted(wanted) if scheme.name(start) not in known]
    for start in missing:
        partitions.create(
            scheme.table,
            scheme.name(start),
            column=scheme.column,
            since=start,
            until=scheme.period.following(start),
        )
    return [scheme.name(start) for start in missing]


def _rescued(
    strays: Sequence[datetime], now: datetime, scheme: Scheme, count: int
) -> Iterator[datetime]:
    *_, latest = scheme.ahead(now, count)
    return (start for start in strays if now - OLDEST_RESCUED <= start <= latest)


def _status(work: UnitOfWork, scheme: Scheme) -> PartitionStatus:
    partitions = PartitionRepository(work.session)
    starts = [scheme.start_of(name) for name in partitions.list_names(scheme.table)]
    ranges = sorted(start for start in starts if start is not None)
    covered = _covered_until(ranges, work.now, scheme.period)
    default_rows = partitions.count_rows(f"{scheme.table}_default")
    return PartitionStatus(
        table=scheme.table,
        partitions=len(ranges),
        covered_until=covered,
        default_rows=default_rows,
        warnings=tuple(_warnings(scheme, covered, default_rows, now=work.now)),
    )


def _covered_until(starts: Sequence[datetime], now: datetime, period: Period) -> datetime | None:
    """Return the end of the unbroken row of partitions that holds ``now``."""
    reached = period.start(now)
    if reached not in starts:
        return None
    while reached in starts:
        reached = period.following(reached)
    return reached


def _warnings(
    scheme: Scheme, covered: datetime | None, default_rows: int, *, now: datetime
) -> Iterator[str]:
    advice = "`rootstream-db db upgrade` makes them, daily from cron"
    if covered is None:
        yield f"{scheme.table} has no partition for this {scheme.period}: {advice}"
    elif covered <= now + timedelta(days=1):
        yield f"{scheme.table} has no partition for the next {scheme.period}: {advice}"
    if default_rows:
        yield (
            f"{scheme.table}_default holds {default_rows} rows that no partition was ready for: "
            f"{advice}"
        )


def _drop_before(work: UnitOfWork, scheme: Scheme, first_kept: datetime) -> list[str]:
    partitions = PartitionRepository(work.session)
    partitions.take_turn()
    dropped = []
    for name in partitions.list_names(scheme.table):
        start = scheme.start_of(name)
        if start is not None and scheme.period.following(start) <= first_kept:
            partitions.drop(scheme.table, name)
            dropped.append(name)
    return dropped
