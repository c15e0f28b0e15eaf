"""Which server a unit of work goes to."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, Self

from sqlalchemy import Connection

from rootstream_db.database.circuit import CircuitBreaker
from rootstream_db.database.lane import BorrowedLane, Lane, Mode, PooledLane
from rootstream_db.database.nesting import Level
from rootstream_db.database.replicas import Replicas
from rootstream_db.errors import ConfigurationError
from rootstream_db.settings import DatabaseSettings

_SMALL_POOL: Final = 2
"""Connections for the units inside other units, and as many for independent ones."""


@dataclass(frozen=True, kw_only=True)
class Routes:
    """The primary by a pool for each level of nesting, and the replicas."""

    lanes: Mapping[Level, Lane]
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
        sizes = dict.fromkeys(Level, _SMALL_POOL) | {Level.OUTER: settings.pool_size}
        lanes = {
            level: PooledLane(settings.url, settings, size=size, circuit=circuit)
            for level, size in sizes.items()
        }
        return cls(lanes=lanes, replicas=Replicas.of(settings))

    @classmethod
    def borrowed(cls, connection: Connection, settings: DatabaseSettings) -> Self:
        """Return routes that all lead to ``connection``."""
        lane = BorrowedLane(connection, settings)
        return cls(lanes=dict.fromkeys(Level, lane), replicas=Replicas(()))

    @property
    def main(self) -> Lane:
        """The lane of ordinary units."""
        return self.lanes[Level.OUTER]

    def reach(self, stack: ExitStack, mode: Mode, level: Level) -> tuple[Lane, Connection]:
        """Take a connection for ``mode`` onto ``stack``."""
        if mode is Mode.READ_ONLY and level is Level.OUTER:
            reached = self.replicas.enter(stack)
            if reached is not None:
                return reached
        lane = self.lanes[level]
        return lane, stack.enter_context(lane.connection(mode))

    def close(self) -> None:
        """Close every connection."""
        for lane in (*self.lanes.values(), *self.replicas.lanes):
            lane.close()
