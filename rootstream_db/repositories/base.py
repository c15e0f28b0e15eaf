"""What every repository can do with its one kind of row."""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar

from sqlalchemy.orm import Session

from rootstream_db.errors import NotFoundError
from rootstream_db.models.base import Base
from rootstream_db.repositories import by_key

Row = TypeVar("Row", bound=Base)


class Repository(Generic[Row]):
    """Finds and stores rows of one table inside the caller's transaction; never commits."""

    model: ClassVar[type[Any]]

    def __init__(self, session: Session) -> None:
        self.session = session

    def get(self, key: Any) -> Row | None:
        """Return the row with that primary key, or None."""
        row: Row | None = by_key.load(self.session, self.model, key)
        return row

    def get_one(self, key: Any) -> Row:
        """Return the row with that primary key.

        Raises:
            NotFoundError: there is none.
        """
        row = self.get(key)
        if row is None:
            raise NotFoundError(self.model.__name__, key)
        return row

    def add(self, row: Row) -> Row:
        """Insert the row now, so that its generated values are known."""
        self.session.add(row)
        self.session.flush()
        return row

    def delete(self, row: Row) -> None:
        """Delete the row now; the database's cascades decide what goes with it."""
        self.session.delete(row)
        self.session.flush()
