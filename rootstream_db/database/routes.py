"""Which server a unit of work goes to."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, Self

from sqlalchemy import Connection

from rootstream_db.database.circuit import CircuitBreaker
from rootstream_db.database.lane import BorrowedLane, Lane, Mode, PooledLane
from rootstream_db.database.replicas import Replicas
from rootstream_db.errors import ConfigurationError
from rootstream_db.settings import DatabaseSettings

_SIDE_POOL: Final = 2
"""Connections for units inside other units: login throttling, and nested transactions."""


@dataclass(frozen=True, kw_only=True)
class Routes:
    """The primary by its two pools, and the replicas."""

    main: Lane
    side: Lane
    replicas: Replicas

    @classmethod
    def pooled(cls, settings: DatabaseSettings) -> Self:
        """Return routes over pools of their own.

        Raises:
            ConfigurationError: nothing says where PostgreSQL is.
        """
        if settings.url is None:
            raise ConfigurationError(
                "nothing says where PostgreSQL is: set ROOTSTREAM_DATABASE_URL, or use "
                "RootStream.embedded(path)",
                setting="database.url",
            )
        circuit = CircuitBreaker.of(settings)
        return cls(
            main=PooledLane(settings.url, settings, size=settings.pool_size, circuit=circuit),
            side=PooledLane(settings.url, settings, size=_SIDE_POOL, circuit=circuit),
            replicas=Replicas.of(settings),
        )

    @classmethod
    def borrowed(cls, connection: Connection, settings: DatabaseSettings) -> Self:
        """Return routes that all lead to ``connection``."""
        lane = BorrowedLane(connection, settings)
        return cls(main=lane, side=lane, replicas=Replicas(()))

    def reach(self, stack: ExitStack, mode: Mode, *, on_side: bool) -> tuple[Lane, Connection]:
        """Take a connection for ``mode`` onto ``stack``."""
        if mode is Mode.READ_ONLY and not on_side:
            reached = self.replicas.enter(stack)
            if reached is not None:
                return reached
        lane = self.side if on_side else self.main
        return lane, stack.enter_context(lane.connection(mode))

    def close(self) -> None:
        """Close every connection."""
        for lane in (self.main, self.side, *self.replicas.lanes):
            lane.close()
