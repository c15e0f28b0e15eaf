"""Columns of sealed values, whatever table they are in: counted by key, and sealed anew."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Table, bindparam, func, inspect, select, tuple_, update
from sqlalchemy.orm import Session

from rootstream_db.models.base import Base

UNSEALED = 0
"""Stands for the key id of values that were stored before there was a key ring."""


@dataclass(frozen=True, kw_only=True)
class SealedColumn:
    """A column of values that the key ring sealed; the ids of their keys stand beside it.

    Attributes:
        model: the table.
        name: the column; ``<name>_key_id`` is the one beside it.
        purpose: what the values are sealed for.
        bound_to: the columns that, after the table's name, make the context of a value.
    """

    model: type[Base]
    name: str
    purpose: str
    bound_to: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.table.name}.{self.name}"

    @property
    def table(self) -> Table:
        """The table itself."""
        table = inspect(self.model).local_table
        if not isinstance(table, Table):
            raise TypeError(f"{self.model.__name__} is not stored in a table of its own")
        return table

    @property
    def value(self) -> ColumnElement[Any]:
        """The sealed value."""
        return self.table.c[self.name]

    @property
    def key_id(self) -> ColumnElement[Any]:
        """The id of the key it was sealed under."""
        return self.table.c[f"{self.name}_key_id"]


class SealedValue(NamedTuple):
    """One value, with the key of its row and what it is bound to."""

    key: tuple[Any, ...]
    bound_to: tuple[Any, ...]
    value: bytes


class SealedValueRepository:
    """Counts and replaces the values of sealed columns."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def count_by_key(self, column: SealedColumn) -> dict[int, int]:
        """Return how many values there are under each key id; ``UNSEALED`` for those without."""
        key_id = func.coalesce(column.key_id, UNSEALED)
        query = select(key_id, func.count()).where(column.value.is_not(None)).group_by(key_id)
        return {row[0]: row[1] for row in self.session.execute(query)}

    def lock_batch(
        self,
        column: SealedColumn,
        key_id: int,
        *,
        after: tuple[Any, ...] | None,
        limit: int,
        wait: bool = False,
    ) -> Sequence[SealedValue]:
        """Return the next values under a key id, in the order of their rows, and lock the rows.

        Rows that somebody else has locked are left out, unless ``wait`` says to wait for them.
        """
        keys = tuple(column.table.primary_key)
        bound = tuple(column.table.c[name] for name in column.bound_to)
        under = column.key_id.is_(None) if key_id == UNSEALED else column.key_id == key_id
        query = select(*keys, *bound, column.value).where(column.value.is_not(None), under)
        if after is not None:
            query = query.where(tuple_(*keys) > after)
        # NO KEY: rows that refer to these may still be written by others.
        query = query.with_for_update(key_share=True, skip_locked=not wait)
        rows = self.session.execute(query.order_by(*keys).limit(limit))
        return [
            SealedValue(tuple(row[: len(keys)]), tuple(row[len(keys) : -1]), row[-1])
            for row in rows
        ]

    def replace(self, column: SealedColumn, values: Iterable[tuple[SealedValue, int]]) -> None:
        """Store new values, each with the id of its key, in rows that are locked."""
        keys = tuple(column.table.primary_key)
        parameters = [
            {"new_value": value.value, "new_key_id": key_id}
            | {f"key_{place}": part for place, part in enumerate(value.key)}
            for value, key_id in values
        ]
        if parameters:
            statement = (
                update(column.table)
                .where(*(key == bindparam(f"key_{place}") for place, key in enumerate(keys)))
                .values(
                    {column.value: bindparam("new_value"), column.key_id: bindparam("new_key_id")}
                )
            )
            self.session.connection().execute(statement, parameters)
