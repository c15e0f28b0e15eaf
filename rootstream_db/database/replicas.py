"""Decide which replica is fresh enough to read from."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final, Self

from pydantic import SecretStr
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from rootstream_db.database.circuit import CircuitBreaker
from rootstream_db.database.lane import Lane, Mode, PooledLane
from rootstream_db.errors import StorageError
from rootstream_db.settings import DatabaseSettings

_logger: Final = logging.getLogger(__name__)
_CHECK_EVERY: Final = 1.0
"""Seconds between two looks at a replica's lag."""

# NULL: nothing tells how old the data is. A standby that received everything and replayed it is
# current however long the primary has been idle, but only while the stream from it is up.
_LAG: Final = """
SELECT CASE
    WHEN NOT pg_is_in_recovery() THEN 0
    WHEN EXISTS (SELECT FROM pg_stat_wal_receiver)
        AND pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
    ELSE EXTRACT(EPOCH FROM clock_timestamp() - pg_last_xact_replay_timestamp())
END
"""


class Replica:
    """One standby and what was last seen of its lag."""

    def __init__(
        self, lane: Lane, *, max_lag: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.lane = lane
        self._max_lag = max_lag
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._next_check = 0.0
        self._fresh = False

    def may_serve(self) -> bool:
        """Tell whether a read may go here: it is fresh, or the caller is the one to find out."""
        return self._fresh or self._monotonic() >= self._next_check

    def confirm(self, connection: Connection) -> bool:
        """Return whether the replica is fresh, asking it when the last look is too old."""
        if self._claim_check():
            lag = connection.exec_driver_sql(_LAG).scalar_one()
            connection.rollback()
            self._note(fresh=lag is not None and float(lag) <= self._max_lag)
        return self._fresh

    def distrust(self) -> None:
        """Send reads elsewhere until the next look."""
        with self._lock:
            self._next_check = self._monotonic() + _CHECK_EVERY
        self._note(fresh=False)

    def _claim_check(self) -> bool:
        with self._lock:
            now = self._monotonic()
            if now < self._next_check:
                return False
            self._next_check = now + _CHECK_EVERY
            return True

    def _note(self, *, fresh: bool) -> None:
        if fresh != self._fresh:
            state = "serves reads" if fresh else "is too far behind or away; reads go elsewhere"
            _logger.info("replica %s %s", self.lane.server.masked(), state)
        self._fresh = fresh


class Replicas:
    """All standbys, asked in turn."""

    def __init__(self, members: Sequence[Replica]) -> None:
        self._members = tuple(members)
        self._turn = itertools.count()

    @classmethod
    def of(cls, settings: DatabaseSettings) -> Self:
        """Return the replicas that ``settings`` names."""
        return cls([_replica(url, settings) for url in settings.replica_urls])

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """Return the lane of each standby."""
        return tuple(replica.lane for replica in self._members)

    def enter(self, stack: ExitStack) -> tuple[Lane, Connection] | None:
        """Take a read-only connection to a fresh replica onto ``stack``; None if there is none."""
        start = next(self._turn) if self._members else 0
        for offset in range(len(self._members)):
            replica = self._members[(start + offset) % len(self._members)]
            if replica.may_serve() and (connection := _enter(replica, stack)) is not None:
                return replica.lane, connection
        return None


def _replica(url: SecretStr, settings: DatabaseSettings) -> Replica:
    circuit = CircuitBreaker.of(settings)
    lane = PooledLane(url, settings, size=settings.pool_size, circuit=circuit)
    return Replica(lane, max_lag=settings.max_replica_lag)


def _enter(replica: Replica, stack: ExitStack) -> Connection | None:
    attempt = ExitStack()
    try:
        connection: Connection = attempt.enter_context(replica.lane.connection(Mode.READ_ONLY))
        fresh = replica.confirm(connection)
    except (StorageError, SQLAlchemyError) as error:
        # Nothing of the unit ran yet: another server can take it.
        attempt.__exit__(type(error), error, error.__traceback__)
        replica.distrust()
        return None
    if not fresh:
        attempt.close()
        return None
    stack.push(attempt.pop_all())
    return connection
