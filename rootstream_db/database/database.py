"""The way to PostgreSQL: transactions, reads, repeats, and how the connections are doing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import psycopg
from sqlalchemy import Connection, Engine

from rootstream_db.clock import Clock, utc_now
from rootstream_db.database.circuit import CircuitBreaker
from rootstream_db.database.engine import connect_direct
from rootstream_db.database.lane import Mode, NoShortWayError
from rootstream_db.database.nesting import Nesting
from rootstream_db.database.retry import retry
from rootstream_db.database.routes import Routes
from rootstream_db.database.units import unit_of_work
from rootstream_db.errors import JobRunningError
from rootstream_db.repositories import by_key
from rootstream_db.settings import DatabaseSettings
from rootstream_db.unit_of_work import UnitOfWork

T = TypeVar("T")
_PING: Final = """
SELECT current_setting('server_version'),
    pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean
"""


@dataclass(frozen=True, kw_only=True)
class PingResult:
    """What one round trip told about the server."""

    latency_seconds: float
    server_version: str
    read_only: bool


@dataclass(frozen=True, kw_only=True)
class PoolStatus:
    """How busy the connections are, and how long units of work waited for one so far."""

    size: int
    in_use: int
    idle: int
    waiting: int
    waited: int
    wait_seconds_total: float
    wait_seconds_max: float


class Database:
    """PostgreSQL, one unit of work at a time; made to be shared by all threads of a process.

    Attributes:
        settings: what it was built from.
        after_commit_failures: after-commit actions that failed since the start.
    """

    def __init__(
        self,
        settings: DatabaseSettings,
        *,
        clock: Clock = utc_now,
        routes: Routes | None = None,
    ) -> None:
        self.settings = settings
        self.after_commit_failures = 0
        self._clock = clock
        self._routes = routes or Routes.pooled(settings)
        self._nesting = Nesting()
        self._counting = threading.Lock()

    @classmethod
    def joined_to(
        cls, connection: Connection, settings: DatabaseSettings, *, clock: Clock = utc_now
    ) -> Self:
        """Return a database whose units are savepoints of the transaction on ``connection``.

        For tests: roll the connection back and nothing of the units remains. It belongs to one
        thread.
        """
        return cls(settings, clock=clock, routes=Routes.borrowed(connection, settings))

    def transaction(self, *, read_only: bool = False) -> AbstractContextManager[UnitOfWork]:
        """Commit what the block did when it ends well, undo all of it when an exception leaves it.

        Args:
            read_only: go to a replica that is fresh enough if there is one; on the primary, let the
                server refuse writes.

        Raises:
            RootStreamError: errors of the database leave the block translated. After a connection
                lost during COMMIT ``context["commit_outcome"]`` is ``"unknown"``.
        """
        return self._unit(Mode.READ_ONLY if read_only else Mode.WRITE)

    def read(self) -> AbstractContextManager[UnitOfWork]:
        """Read without a transaction: every statement sees the newest data of the primary.

        Nearly twice as fast as a transaction for a single statement. Writing is refused.
        """
        return self._unit(Mode.AUTOCOMMIT)

    def fetch_one(self, statement: str, parameters: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Return the one row of a statement that only reads, or None; newest data of the primary.

        For what every request looks up: it takes two thirds of the time of a unit of work. The row
        is as the driver makes it, placeholders are its ``%s``. It may be asked twice.
        """
        with self._nesting.entered(independent=False) as level, suppress(NoShortWayError):
            return self._routes.lanes[level].fetch_one(statement, parameters)
        with self.read() as work:
            return by_key.fetch_one(work.session, statement, parameters)

    def independent(self) -> AbstractContextManager[UnitOfWork]:
        """Commit the block on its own, whatever becomes of the transaction it is called in.

        It has connections of its own, so that it never waits for the ones its callers hold. For
        what must survive a rollback, such as a failed login.
        """
        return self._unit(Mode.WRITE, independent=True)

    def run(
        self,
        fn: Callable[[UnitOfWork], T],
        *,
        attempts: int | None = None,
        read_only: bool = False,
        idempotent: bool = False,
    ) -> T:
        """Return ``fn(work)`` from a transaction, run again from the start on passing failures.

        Passing are serialization failures and deadlocks, lost or refused connections and a primary
        that became a standby. A connection lost during COMMIT leaves open whether the transaction
        happened; then ``fn`` runs again only if ``idempotent`` says that twice is as good as once.

        Args:
            fn: the whole unit; it may run several times, so it does nothing outside ``work``.
            attempts: most runs in all, the first one included; default: ``run_attempts``.
            read_only: as in ``transaction``.
            idempotent: run again even after an unknown commit outcome.
        """

        def unit() -> T:
            with self.transaction(read_only=read_only) as work:
                return fn(work)

        return retry(
            unit,
            attempts=self.settings.run_attempts if attempts is None else attempts,
            idempotent=idempotent or read_only,
        )

    def ping(self) -> PingResult:
        """Ask the server who it is, and measure the round trip."""
        with self.read() as work:
            connection = work.session.connection()
            started = time.perf_counter()
            version, read_only = connection.exec_driver_sql(_PING).one()
            latency = time.perf_counter() - started
        return PingResult(latency_seconds=latency, server_version=version, read_only=read_only)

    def pool_status(self) -> PoolStatus:
        """Return how busy the connections to the primary are."""
        gate = self._routes.main.gate.status()
        return PoolStatus(
            size=gate.size,
            in_use=gate.in_use,
            idle=self._routes.main.idle_connections(),
            waiting=gate.waiting,
            waited=gate.waited,
            wait_seconds_total=gate.wait_seconds_total,
            wait_seconds_max=gate.wait_seconds_max,
        )

    @contextmanager
    def direct(self) -> Iterator[psycopg.Connection[Any]]:
        """Yield an autocommit connection past pool and pooler, for locks, LISTEN and long jobs."""
        with (
            self._routes.main.translating(Mode.WRITE),
            connect_direct(self.settings) as connection,
        ):
            yield connection

    @contextmanager
    def exclusively(self, job: str) -> Iterator[None]:
        """Be the only process of this database that does a job; the lock goes with the process.

        Args:
            job: its name, which is that of the lock.

        Raises:
            JobRunningError: another process is doing it.
        """
        with self.direct() as connection:
            lock = "SELECT pg_try_advisory_lock(hashtextextended('rootstream_db.' || %s, 0))"
            if connection.execute(lock, (job,)).fetchone() != (True,):
                raise JobRunningError(job)
            try:
                yield
            finally:
                # The server notices a closed connection a little later than its client. If the
                # connection is lost, so is the lock.
                with suppress(psycopg.Error):
                    connection.execute("SELECT pg_advisory_unlock_all()")

    @property
    def engine(self) -> Engine:
        """The SQLAlchemy engine of the primary, for tools that need one."""
        return self._routes.main.engine

    @property
    def circuit(self) -> CircuitBreaker:
        """The circuit breaker of the primary; ``circuit.state`` tells how it stands."""
        return self._routes.main.circuit

    def close(self) -> None:
        """Close every connection; units that wait for one and later ones fail."""
        self._routes.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def _unit(self, mode: Mode, *, independent: bool = False) -> Iterator[UnitOfWork]:
        with self._nesting.entered(independent=independent) as level, ExitStack() as stack:
            lane, connection = self._routes.reach(stack, mode, level)
            work = stack.enter_context(unit_of_work(lane, connection, mode, clock=self._clock))
            yield work
        # The connection is back in the pool: a slow cache holds nobody up.
        if failures := work.committed():
            with self._counting:
                self.after_commit_failures += failures
