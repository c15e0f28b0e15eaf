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

from rootstream_db.database.circuit import CircuitBreaker
from rootstream_db.database.lane import Lane, Mode, PooledLane
from rootstream_db.errors import RootStreamError
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
    """One standby, and what was last seen of its lag."""

    def __init__(
        self, lane: Lane, *, max_lag: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.lane = lane
        self._max_lag = max_lag
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._checking = False
        self._next_check = 0.0
        self._fresh_until = 0.0

    def enter(self, stack: ExitStack) -> Connection | None:
        """Take a connection onto ``stack``, or return None if the data may be too old.

        Whoever comes first after a second asks for the lag; the others go by the last answer, for
        at most one more second: a standby that hangs in the middle of an answer holds up one.
        """
        checking = self._claim_check()
        if not checking and self._monotonic() >= self._fresh_until:
            return None
        try:
            with ExitStack() as attempt:
                connection = attempt.enter_context(self.lane.connection(Mode.READ_ONLY))
                if checking and not self._is_fresh(connection):
                    self._note(fresh=False, reason="it is too far behind")
                    return None
                stack.push(attempt.pop_all())
        except RootStreamError as error:
            # Nothing of the unit ran yet: another server can take it.
            self._note(fresh=False, reason=str(error))
            return None
        finally:
            if checking:
                self._release_check()
        if checking:
            self._note(fresh=True)
        return connection

    def _claim_check(self) -> bool:
        with self._lock:
            if self._checking or self._monotonic() < self._next_check:
                return False
            self._checking = True
            return True

    def _release_check(self) -> None:
        with self._lock:
            self._checking = False
            self._next_check = self._monotonic() + _CHECK_EVERY

    def _is_fresh(self, connection: Connection) -> bool:
        lag = connection.exec_driver_sql(_LAG).scalar_one()
        connection.rollback()
        return lag is not None and float(lag) <= self._max_lag

    def _note(self, *, fresh: bool, reason: str = "") -> None:
        with self._lock:
            was_fresh = self._fresh_until > 0
            self._fresh_until = self._monotonic() + 2 * _CHECK_EVERY if fresh else 0.0
        if fresh and not was_fresh:
            _logger.info("replica %s serves reads", self.lane.server.masked())
        elif was_fresh and not fresh:
            _logger.warning(
                "replica %s serves no reads for now: %s", self.lane.server.masked(), reason
            )


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
            connection = replica.enter(stack)
            if connection is not None:
                return replica.lane, connection
        return None


def _replica(url: SecretStr, settings: DatabaseSettings) -> Replica:
    circuit = CircuitBreaker.of(settings)
    lane = PooledLane(url, settings, size=settings.pool_size, circuit=circuit)
    return Replica(lane, max_lag=settings.max_replica_lag)
