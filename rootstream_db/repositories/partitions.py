"""Where time partitions are found, made, filled and dropped."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import MetaData, Table, delete, func, insert, select, text
from sqlalchemy.orm import Session

from rootstream_db.models import Base

LOCK_WAIT = "3s"
"""Longest wait for a table: everybody who comes after a waiting lock waits too."""

# One number of our own for "somebody changes partitions", in the space of transaction locks.
_TURN = text("SELECT pg_advisory_xact_lock(hashtext('rootstream_db.partitions'))")
_WAIT = text("SELECT set_config('lock_timeout', :wait, true)")
_PARTITIONS = text(
    """
    SELECT child.relname
    FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid
    WHERE inhparent = CAST(:parent AS regclass) ORDER BY child.relname
    """
)


class PartitionRepository:
    """The partitions of a table that is partitioned by one column of time.

    Names of tables come from the models and from dates, never from callers' text.
    """

    def __init__(self, session: Session) -> None:
        self.session = session

    def take_turn(self) -> None:
        """Wait until nobody else changes partitions, and from then on only briefly for tables."""
        self.session.execute(_TURN)
        self.session.execute(_WAIT, {"wait": LOCK_WAIT})

    def list_names(self, parent: str) -> Sequence[str]:
        """Return the names of a table's partitions, the default one included."""
        return self.session.scalars(_PARTITIONS, {"parent": parent}).all()

    def count_rows(self, name: str) -> int:
        """Return how many rows a partition holds."""
        count = select(func.count()).select_from(_table(name, of=name))
        return self.session.scalar(count) or 0

    def list_periods(self, parent: str, column: str, period: str) -> Sequence[datetime]:
        """Return the starts of the periods that the default partition holds rows of."""
        source = _default_of(parent)
        start = func.date_trunc(period, source.c[column], "UTC")
        return self.session.scalars(select(start).distinct().order_by(start)).all()

    def create(
        self, parent: str, name: str, *, column: str, since: datetime, until: datetime
    ) -> int:
        """Make the partition of a period; rows of it in the default partition move over.

        Returns:
            How many rows moved.
        """
        # Writers wait at the parent: one that waited at the default partition would have chosen it
        # already, and fail once the row belongs elsewhere. In this order nobody deadlocks.
        self._run(f"LOCK TABLE {parent} IN SHARE ROW EXCLUSIVE MODE")
        self._run(f"LOCK TABLE {parent}_default IN ACCESS EXCLUSIVE MODE")
        self._run(f"CREATE TABLE {name} (LIKE {parent} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
        moved = self._move(parent, name, column=column, since=since, until=until)
        bounds = f"FROM ('{since.isoformat()}') TO ('{until.isoformat()}')"
        self._run(f"ALTER TABLE {parent} ATTACH PARTITION {name} FOR VALUES {bounds}")
        return moved

    def drop(self, parent: str, name: str) -> None:
        """Detach a partition and drop it with its rows."""
        self._run(f"ALTER TABLE {parent} DETACH PARTITION {name}")
        self._run(f"DROP TABLE {name}")

    def _move(
        self, parent: str, name: str, *, column: str, since: datetime, until: datetime
    ) -> int:
        source, target = _default_of(parent), _table(name, of=parent)
        moment = source.c[column]
        moved = (
            delete(source).where(moment >= since, moment < until).returning(*source.c).cte("moved")
        )
        columns = [column.name for column in source.c]
        result: Any = self.session.execute(insert(target).from_select(columns, select(moved)))
        return int(result.rowcount)

    def _run(self, statement: str) -> None:
        self.session.execute(text(statement))


def _default_of(parent: str) -> Table:
    return _table(f"{parent}_default", of=parent)


def _table(name: str, *, of: str) -> Table:
    parent = Base.metadata.tables.get(of)
    if parent is None:
        return Table(name, MetaData())
    return parent.to_metadata(MetaData(), name=name)
