"""Projections: kept up to date, watched, skipped past what they cannot apply, made anew."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from rootstream_db.errors import ConflictError, NotFoundError, ValidationError
from rootstream_db.services.event_store.following import Patience
from rootstream_db.services.projections.projection import Projection
from rootstream_db.services.projections.runner import BATCH, HEALTHY, LEASE, ProjectionRunner
from rootstream_db.services.projections.status import (
    Outcome,
    ProjectionRun,
    ProjectionStatus,
    status_of,
)

if TYPE_CHECKING:
    from rootstream_db.database import Database
    from rootstream_db.services.event_store import EventStore
    from rootstream_db.unit_of_work import UnitOfWork

AGGREGATE: Final = "Projection"
"""Aggregate type of the events about projections themselves."""

MAX_REASON: Final = 1000

_logger: Final = logging.getLogger("rootstream_db.projections")


class Projections:
    """The projections of a program, each with a checkpoint, a lease and failures of its own.

    Args:
        database: where events, read models and checkpoints are.
        events: reads the log, and records what operators do.
        known: the projections to begin with.
        batch: events of one transaction.
        lease: how long a process that died keeps others waiting.
    """

    def __init__(
        self,
        database: Database,
        events: EventStore,
        known: Iterable[Projection] = (),
        *,
        batch: int = BATCH,
        lease: timedelta = LEASE,
    ) -> None:
        self._database = database
        self._events = events
        self._runner = ProjectionRunner(database, events, batch=batch, lease=lease)
        self._known: dict[str, Projection] = {}
        for projection in known:
            self.register(projection)

    @property
    def names(self) -> list[str]:
        """The names of the projections this program knows."""
        return sorted(self._known)

    def register(self, projection: Projection) -> None:
        """Add a projection.

        Raises:
            ConflictError: another one has its name.
        """
        if projection.name in self._known:
            raise ConflictError(f"there is a projection {projection.name} already")
        self._known[projection.name] = projection

    def run_once(self, *names: str) -> list[ProjectionRun]:
        """Bring projections up to the end of the log, a batch of each in turn.

        Events that failed before are tried at once. A projection that fails, or that another
        process works on, keeps no other from going on; see ``outcome`` and ``error``.

        Args:
            names: which ones; default: all.

        Raises:
            NotFoundError: a name is unknown.
            DatabaseUnavailableError: the database cannot be reached.
        """
        waiting = self._chosen(names)
        runs = {one.name: ProjectionRun(name=one.name, outcome=Outcome.CURRENT) for one in waiting}
        try:
            while waiting:
                for projection in waiting:
                    runs[projection.name] = _added(
                        runs[projection.name], self._runner.advance(projection)
                    )
                waiting = [one for one in waiting if runs[one.name].outcome is Outcome.ADVANCED]
        finally:
            self._release(runs)
        return list(runs.values())

    def run(self, *names: str, stop: threading.Event) -> None:
        """Keep projections up to date until told to stop, each in a thread of its own.

        They go on when Redis carries the word of new events, and look for themselves now and then.

        Args:
            names: which ones; default: all.
            stop: set it to end after the batches under way.

        Raises:
            NotFoundError: a name is unknown.
        """
        threads = [
            threading.Thread(
                target=self._follow, args=(projection, stop), name=f"projection {projection.name}"
            )
            for projection in self._chosen(names)
        ]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def rebuild(
        self,
        name: str,
        *,
        anew: bool = False,
        progress: Callable[[int, int], object] | None = None,
    ) -> ProjectionRun:
        """Empty a read model and make it again from the first event, in place.

        Meanwhile readers see what is there already, and ``status`` says ``rebuilding``. A rebuild
        that was interrupted goes on where it was, here or in ``run``. A process that was running
        the projection lets go of it.

        Args:
            name: which projection.
            anew: begin again even if a rebuild is under way.
            progress: called with the position reached and the one to reach.

        Returns:
            What it came to; ``busy`` if another rebuild took over.

        Raises:
            NotFoundError: the name is unknown.
        """
        (projection,) = self._chosen([name])
        target = self._runner.restart(projection, anew=anew)
        run = ProjectionRun(name=name, outcome=Outcome.ADVANCED, head=target)
        while run.outcome is Outcome.ADVANCED and run.position < target:
            run = _added(run, self._runner.advance(projection))
            if progress is not None:
                progress(min(run.position, target), target)
        self._release([name])
        finished = run.outcome is Outcome.ADVANCED
        return replace(run, outcome=Outcome.CURRENT) if finished else run

    def skip(self, name: str, position: int, *, reason: str, user_id: int | None = None) -> None:
        """Leave out the event that stops a projection; this is recorded as an event itself.

        A rebuild tries the event again: by then the projection may have been mended.

        Args:
            name: which projection.
            position: the event, as ``status`` names it.
            reason: why it may be left out.
            user_id: who decided it.

        Raises:
            NotFoundError: the name is unknown.
            ConflictError: it is not the event that stops the projection.
            ValidationError: there is no reason.
        """
        self._chosen([name])
        if not 1 <= len(reason.strip()) <= MAX_REASON:
            raise ValidationError(f"a reason has 1 to {MAX_REASON} characters", field="reason")

        def leave_out(work: UnitOfWork) -> None:
            checkpoint = work.checkpoints.lock_one(name)
            if checkpoint.failed_position != position:
                raise ConflictError(
                    f"projection {name} is stopped by {_event(checkpoint.failed_position)}, not by "
                    f"{_event(position)}"
                )
            data = {"position": position, "reason": reason, "error": checkpoint.last_error}
            self._events.append(
                work, AGGREGATE, name, "ProjectionEventSkipped", data, user_id=user_id
            )
            work.checkpoints.save(checkpoint, {**HEALTHY, "last_position": position})

        self._database.run(leave_out)

    def status(self) -> list[ProjectionStatus]:
        """Return how every projection of the database stands, other programs' included."""
        self._chosen(())
        with self._database.transaction() as work:
            head = work.events.get_head()
            return [
                status_of(
                    standing.checkpoint, head, waiting_since=standing.waiting_since, now=work.now
                )
                for standing in work.checkpoints.list_standings()
            ]

    def _chosen(self, names: Iterable[str]) -> list[Projection]:
        """Return the named projections, or all; each has a checkpoint from now on."""
        wanted = list(dict.fromkeys(names)) or self.names
        for name in wanted:
            if name not in self._known:
                raise NotFoundError("Projection", name)
        self._database.run(lambda work: work.checkpoints.ensure(wanted), idempotent=True)
        return [self._known[name] for name in wanted]

    def _follow(self, projection: Projection, stop: threading.Event) -> None:
        failing, patience, never = False, Patience(stop), threading.Event()
        with self._events.listening() as grown:
            while not stop.is_set():
                outcome = None
                try:
                    outcome = self._runner.advance(projection, patient=True).outcome
                except Exception as error:  # noqa: BLE001 - whatever it was, it is tried again
                    if not failing:
                        # One line for an outage of an hour.
                        _logger.error("projection %s waits: %s", projection.name, error)  # noqa: TRY400
                failing = outcome is None
                if outcome is Outcome.ADVANCED:
                    patience.renew()
                else:
                    # More events change nothing for one that fails, or that others work on.
                    patience.wait(grown if outcome is Outcome.CURRENT else never)
        self._release([projection.name])

    def _release(self, names: Iterable[str]) -> None:
        """Give leases back; one that cannot be given back runs out."""
        for name in names:
            try:
                self._runner.release(self._known[name])
            except Exception as error:  # noqa: BLE001 - must not hide what went before
                _logger.warning("the lease of projection %s was not given back: %s", name, error)


def _added(before: ProjectionRun, now: ProjectionRun) -> ProjectionRun:
    """Return the newer run with what both applied."""
    return ProjectionRun(
        name=now.name,
        outcome=now.outcome,
        events=before.events + now.events,
        position=now.position or before.position,
        head=now.head or before.head,
        error=now.error,
    )


def _event(position: int | None) -> str:
    return "no event" if position is None else f"event {position}"
