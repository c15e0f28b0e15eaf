"""A lane to one server: its engine, the gate in front of its pool, and the circuit around both."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from enum import Enum
from typing import Any, Final, Literal

import psycopg
from pydantic import SecretStr
from sqlalchemy import Connection, Engine, QueuePool
from sqlalchemy.exc import SQLAlchemyError

from rootstream_db.database.circuit import CircuitBreaker, CircuitState
from rootstream_db.database.engine import READ_ONLY_OPTION, build_engine, local_limits
from rootstream_db.database.gate import FifoGate
from rootstream_db.database.translation import is_connection_failure, translate
from rootstream_db.repositories.driver import cursor_of
from rootstream_db.settings import DatabaseSettings
from rootstream_db.settings.urls import POSTGRES_SCHEMES, ServerUrl, parse_url


class Mode(Enum):
    """What a unit of work may do."""

    WRITE = "write"
    READ_ONLY = "read-only"
    AUTOCOMMIT = "autocommit"


_READ_ONLY: Final[dict[str, Any]] = {"postgresql_readonly": True, READ_ONLY_OPTION: True}


class NoShortWayError(Exception):
    """Something is unusual; units of work know what to do then. Never leaves ``Database``."""


class Lane(ABC):
    """Hands out connections to one server and keeps watch over them."""

    join_transaction_mode: Literal["control_fully", "create_savepoint"]

    def __init__(
        self, server: ServerUrl, *, engine: Engine, gate: FifoGate, circuit: CircuitBreaker
    ) -> None:
        self.server = server
        self.engine = engine
        self.gate = gate
        self.circuit = circuit
        self.prologue: str | None = None

    @abstractmethod
    def connection(self, mode: Mode) -> AbstractContextManager[Connection]:
        """Yield a connection in ``mode``; errors that leave the block are ours."""

    @contextmanager
    def translating(self, mode: Mode) -> Iterator[None]:
        """Translate the errors of the driver that leave the block."""
        try:
            yield
        except (SQLAlchemyError, psycopg.Error) as error:
            better = self.translate(error, mode)
            if better is error:
                raise
            raise better from error

    def translate(self, error: Exception, mode: Mode) -> Exception:
        """Return our error for a driver's, and tell the circuit about it."""
        better = translate(error, server=self.server, read_only=mode is not Mode.WRITE)
        if better is not error and is_connection_failure(better):
            self.circuit.record_failure()
        return better

    def fetch_one(self, statement: str, parameters: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Return the row of a statement that reads, the short way.

        Raises:
            NoShortWayError: only a unit of work can tell what the matter is.
        """
        raise NoShortWayError

    def idle_connections(self) -> int:
        """Return how many open connections rest in the pool."""
        pool = self.engine.pool
        return pool.checkedin() if isinstance(pool, QueuePool) else 0

    @abstractmethod
    def close(self) -> None:
        """Turn new units away and close every connection of the lane's own."""


class PooledLane(Lane):
    """Connections of a pool of its own, handed out in order of arrival."""

    join_transaction_mode = "control_fully"

    def __init__(
        self, url: SecretStr, settings: DatabaseSettings, *, size: int, circuit: CircuitBreaker
    ) -> None:
        super().__init__(
            parse_url(url.get_secret_value(), schemes=POSTGRES_SCHEMES),
            engine=build_engine(url, settings, pool_size=size),
            gate=FifoGate(size),
            circuit=circuit,
        )
        self._timeout = settings.pool_timeout
        # The same pool; the option of its connections is there from the start.
        self._reading = self.engine.execution_options(**{READ_ONLY_OPTION: True})
        if settings.pooler == "pgbouncer":
            self.prologue = local_limits(settings)

    @contextmanager
    def connection(self, mode: Mode) -> Iterator[Connection]:
        """Yield a connection of the pool.

        Raises:
            CircuitOpenError: the server failed repeatedly and its pause is not over.
            StorageTimeoutError: no connection became free in time.
        """
        self.circuit.check()
        with self.gate.permit(self._timeout), self.translating(mode):
            connection = self._connect(mode)
            try:
                if mode is Mode.AUTOCOMMIT:
                    # At the driver, and back when the pool has it again: SQLAlchemy's option
                    # isolation_level takes 10 µs each time.
                    connection.connection.driver_connection.autocommit = True  # type: ignore[union-attr]  # it is connected
                yield connection
            finally:
                connection.close()
        self.circuit.record_success()

    def fetch_one(self, statement: str, parameters: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Return the row of a statement that reads, the short way.

        Raises:
            NoShortWayError: the server failed lately, or the statement does now.
        """
        if self.circuit.state is not CircuitState.CLOSED:
            raise NoShortWayError
        self.gate.enter(self._timeout)
        try:
            lent = self.engine.raw_connection()
            try:
                driver: Any = lent.driver_connection
                driver.autocommit = True
                row: tuple[Any, ...] | None = (
                    cursor_of(lent).execute(statement, parameters).fetchone()
                )
            except BaseException:
                lent.invalidate()
                raise
            lent.close()
        except (SQLAlchemyError, psycopg.Error, UnicodeError) as error:
            raise NoShortWayError from error
        finally:
            self.gate.leave()
        return row

    def close(self) -> None:
        """Turn new units away and close every connection of the pool."""
        self.gate.close()
        self.engine.dispose()

    def _connect(self, mode: Mode) -> Connection:
        with self.circuit.admission() as probing, self.translating(mode):
            engine = self._reading if mode is Mode.AUTOCOMMIT else self.engine
            connection = engine.connect()
            if probing:
                _prove(connection)
        if mode is Mode.READ_ONLY:
            return connection.execution_options(**_READ_ONLY)
        return connection


class BorrowedLane(Lane):
    """One connection of somebody else's, in a transaction of theirs."""

    join_transaction_mode = "create_savepoint"

    def __init__(self, connection: Connection, settings: DatabaseSettings) -> None:
        url = settings.url or SecretStr(connection.engine.url.render_as_string())
        super().__init__(
            parse_url(url.get_secret_value(), schemes=POSTGRES_SCHEMES),
            engine=connection.engine,
            gate=FifoGate(1),
            circuit=CircuitBreaker.of(settings),
        )
        self._connection = connection

    @contextmanager
    def connection(self, mode: Mode) -> Iterator[Connection]:
        """Yield the one connection; it stays in the transaction it is in."""
        with self.translating(mode):
            yield self._connection

    def close(self) -> None:
        """Leave the connection to its owner."""
        self.gate.close()


def _prove(connection: Connection) -> None:
    """Ask the server something: a connection from the pool proves nothing until it was used."""
    try:
        connection.exec_driver_sql("SELECT 1")
        connection.rollback()
    except BaseException:
        connection.close()
        raise
