"""Open a unit of work on a connection, and end it: the only code that commits."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import Any, Final

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import ORMExecuteState, Session

from rootstream_db.clock import Clock
from rootstream_db.database.lane import Lane, Mode
from rootstream_db.database.translation import is_connection_failure, translate
from rootstream_db.errors import DatabaseUnavailableError, StorageError
from rootstream_db.unit_of_work import UnitOfWork

_logger: Final = logging.getLogger(__name__)


class ReadSession(Session):
    """A session that refuses to write, where the server would not notice or too late."""

    def flush(self, objects: Any = None) -> None:
        """Refuse what is pending: nothing may be."""
        if self._is_clean():  # what new, deleted and dirty tell, without sets made of them
            return
        if self.new or self.deleted or any(self.is_modified(row) for row in self.dirty):
            raise _read_only_error()


@event.listens_for(ReadSession, "do_orm_execute")
def _refuse_writes(state: ORMExecuteState) -> None:
    if state.is_insert or state.is_update or state.is_delete:
        raise _read_only_error()


@contextmanager
def unit_of_work(
    lane: Lane, connection: Connection, mode: Mode, *, clock: Clock
) -> Iterator[UnitOfWork]:
    """Yield a unit of work on ``connection``; commit it when the block ends well."""
    session = _session(lane, connection, mode)
    try:
        if lane.prologue and mode is not Mode.AUTOCOMMIT:
            session.connection().exec_driver_sql(lane.prologue)
        work = UnitOfWork(
            session,
            clock=clock,
            translate=lambda error: lane.translate(error, mode),
            alone=partial(_alone, connection, lane) if mode is Mode.WRITE else None,
        )
        yield work
        work.prepare_commit()
        _require_intact(connection)
        # A unit that only read rows by key, or only appended events, began nothing; to commit it
        # all the same takes 20 µs.
        if connection.in_transaction():
            _commit(session, lane, mode)
    except BaseException:
        # Whatever goes wrong while undoing, the reason for it is what the caller must see; a
        # connection that cannot roll back is thrown away by the pool.
        with suppress(SQLAlchemyError, psycopg.Error):
            session.rollback()
        raise
    finally:
        with suppress(SQLAlchemyError, psycopg.Error):
            session.close()


def _session(lane: Lane, connection: Connection, mode: Mode) -> Session:
    kind = Session if mode is Mode.WRITE else ReadSession
    return kind(
        connection, expire_on_commit=False, join_transaction_mode=lane.join_transaction_mode
    )


def _require_intact(connection: Connection) -> None:
    """Refuse to commit after an error that the block swallowed: PostgreSQL would roll back."""
    if connection.invalidated:
        raise DatabaseUnavailableError("the connection was lost inside the unit of work")
    driver = connection.connection.driver_connection
    status = driver.info.transaction_status if driver is not None else TransactionStatus.UNKNOWN
    if status is TransactionStatus.INERROR:
        raise StorageError(
            "an earlier statement of this unit of work failed and the unit went on: nothing was "
            "stored. Put what may fail inside work.savepoint()"
        )
    if status is TransactionStatus.UNKNOWN:
        raise DatabaseUnavailableError("the connection was lost inside the unit of work")


def _commit(session: Session, lane: Lane, mode: Mode) -> None:
    with _doubting(lane) if mode is Mode.WRITE else nullcontext():
        session.commit()


@contextmanager
def _alone(connection: Connection, lane: Lane) -> Iterator[None]:
    """Make the statement of the block a transaction of its own, unless one was begun already."""
    driver = connection.connection.driver_connection
    status = driver.info.transaction_status if driver is not None else TransactionStatus.UNKNOWN
    if connection.in_transaction() or driver is None or status is not TransactionStatus.IDLE:
        yield
        return
    # Back when the pool has the connection again, as after reading without a transaction.
    driver.autocommit = True
    with _doubting(lane):
        yield


@contextmanager
def _doubting(lane: Lane) -> Iterator[None]:
    """Say of a connection lost in the block that nobody knows whether the transaction happened."""
    try:
        yield
    except (SQLAlchemyError, psycopg.Error) as error:
        better = translate(error, server=lane.server)
        if is_connection_failure(better):
            lane.circuit.record_failure()
            raise _unknown_outcome(better) from error
        raise


def _unknown_outcome(error: Exception) -> DatabaseUnavailableError:
    context = getattr(error, "context", {})
    return DatabaseUnavailableError(
        "the connection was lost during COMMIT: the transaction may or may not have happened "
        f"({error})",
        **{**context, "commit_outcome": "unknown"},
    )


def _read_only_error() -> StorageError:
    return StorageError("this unit of work is read-only: open transaction() to write")
