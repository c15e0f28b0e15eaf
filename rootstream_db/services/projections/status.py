"""How projections stand and what a run of one came to: values and the rules behind them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from rootstream_db.errors import LogDivergedError, RootStreamError
from rootstream_db.models import ProjectionCheckpoint
from rootstream_db.repositories.events import LogHead

FIRST_RETRY: Final = timedelta(seconds=1)
LONGEST_RETRY: Final = timedelta(minutes=5)
_DOUBLINGS: Final = 10


class Outcome(StrEnum):
    """What a run of a projection came to."""

    ADVANCED = "advanced"
    CURRENT = "current"
    BUSY = "busy"
    FAILED = "failed"
    DIVERGED = "diverged"


class ProjectionState(StrEnum):
    """How a projection stands."""

    CURRENT = "current"
    LAGGING = "lagging"
    REBUILDING = "rebuilding"
    FAILED = "failed"
    DIVERGED = "diverged"


@dataclass(frozen=True, kw_only=True)
class ProjectionRun:
    """What a run of one projection came to.

    Attributes:
        name: which projection.
        outcome: ``busy`` if another process has the lease, ``failed`` if an event stops it.
        events: how many events were applied.
        position: how far it is in the log.
        head: where the log ended.
        error: why it failed or diverged.
    """

    name: str
    outcome: Outcome
    events: int = 0
    position: int = 0
    head: int = 0
    error: Exception | None = None


@dataclass(frozen=True, kw_only=True)
class ProjectionStatus:
    """How one projection stands.

    Attributes:
        name: which projection.
        state: in one word.
        position: how far it is in the log.
        head: where the log ends.
        lag_events: events after ``position``, wanted ones or not.
        lag_seconds: how long the first of them has been waiting.
        rebuild_to: the position at which the read model will be whole again, while it is rebuilt.
        owner: who has the lease.
        lease_until: how long.
        attempts: how often the event at ``failed_position`` was tried.
        failed_position: the event that stops the projection.
        last_error: what it said.
        retry_at: when it is tried again.
        updated_at: when the projection last moved, or failed.
    """

    name: str
    state: ProjectionState
    position: int
    head: int
    lag_events: int
    lag_seconds: float
    rebuild_to: int | None = None
    owner: str | None = None
    lease_until: datetime | None = None
    attempts: int = 0
    failed_position: int | None = None
    last_error: str | None = None
    retry_at: datetime | None = None
    updated_at: datetime | None = None


def divergence(checkpoint: ProjectionCheckpoint, head: LogHead) -> LogDivergedError | None:
    """Return why the checkpoint means nothing in the log as it is now, or None."""
    if checkpoint.epoch != head.epoch:
        reason = "history was cut since, as a restore does"
    elif checkpoint.last_position > head.last_position:
        reason = f"the log ends before that, at {head.last_position}"
    else:
        return None
    return LogDivergedError(
        f"projection {checkpoint.name} stands at position {checkpoint.last_position} of a log "
        f"that is not this one any more: {reason}. Rebuild it",
        projection=checkpoint.name,
        position=checkpoint.last_position,
    )


def retry_delay(attempts: int) -> timedelta:
    """Return how long to wait after the given number of failures: doubling, up to a limit."""
    return min(FIRST_RETRY * (1 << min(attempts - 1, _DOUBLINGS)), LONGEST_RETRY)


def status_of(
    checkpoint: ProjectionCheckpoint,
    head: LogHead,
    *,
    waiting_since: datetime | None,
    now: datetime,
) -> ProjectionStatus:
    """Return how the projection stands."""
    behind = max(head.last_position - checkpoint.last_position, 0)
    waited = (now - waiting_since).total_seconds() if behind and waiting_since else 0.0
    return ProjectionStatus(
        name=checkpoint.name,
        state=_state(checkpoint, head),
        position=checkpoint.last_position,
        head=head.last_position,
        lag_events=behind,
        lag_seconds=max(waited, 0.0),
        rebuild_to=checkpoint.rebuild_to,
        owner=checkpoint.owner,
        lease_until=checkpoint.lease_until,
        attempts=checkpoint.attempts,
        failed_position=checkpoint.failed_position,
        last_error=checkpoint.last_error,
        retry_at=checkpoint.retry_at,
        updated_at=checkpoint.updated_at,
    )


def described(error: Exception) -> str:
    """Return an error as it is stored: what it says, and its class unless it is one of ours."""
    text = str(error) if isinstance(error, RootStreamError) else f"{type(error).__name__}: {error}"
    # PostgreSQL stores no NUL; a message may quote one.
    return " ".join(text.replace("\0", "").split())[:1000]


def _state(checkpoint: ProjectionCheckpoint, head: LogHead) -> ProjectionState:
    if divergence(checkpoint, head) is not None:
        return ProjectionState.DIVERGED
    if checkpoint.attempts:
        return ProjectionState.FAILED
    if checkpoint.rebuild_to is not None:
        return ProjectionState.REBUILDING
    behind = checkpoint.last_position < head.last_position
    return ProjectionState.LAGGING if behind else ProjectionState.CURRENT
