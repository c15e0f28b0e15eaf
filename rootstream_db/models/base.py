"""What every table shares: constraint names by convention, column types by annotation."""

from __future__ import annotations

import uuid
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, ClassVar, dataclass_transform

from sqlalchemy import (
    BigInteger,
    DateTime,
    Dialect,
    Enum,
    FetchedValue,
    Identity,
    LargeBinary,
    MetaData,
    Numeric,
    Text,
    TypeDecorator,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import INET, JSONB
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    MappedColumn,
    mapped_column,
)

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

SHA256_BYTES = 32
"""Length of a digest by SHA-256, keyed or not, in bytes (FIPS 180-4)."""

identity_key = Annotated[int, mapped_column(BigInteger, Identity(), primary_key=True)]
public_key = Annotated[uuid.UUID, mapped_column(Uuid, server_default=func.gen_random_uuid())]
created_time = Annotated[
    datetime, mapped_column(DateTime(timezone=True), server_default=func.now())
]
updated_time = Annotated[
    datetime,
    mapped_column(
        DateTime(timezone=True), server_default=func.now(), server_onupdate=FetchedValue()
    ),
]
counter = Annotated[int, mapped_column(BigInteger, server_default=text("0"))]


class IpAddress(TypeDecorator[str]):
    """An IP address in INET; text in Python, where psycopg would make objects of it."""

    impl = INET
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        """Return the address as PostgreSQL shows it."""
        return None if value is None else str(value)


def choice(kind: type[StrEnum], name: str) -> Enum:
    """Return the column type of a closed set of words: VARCHAR plus a named CHECK.

    Native enum types are avoided because changing one needs ``ALTER TYPE`` in a migration.
    """
    return Enum(
        kind,
        name=name,
        native_enum=False,
        create_constraint=True,
        length=50,
        values_callable=lambda members: [member.value for member in members],
    )


# Type checkers do not inherit the class keywords below; this tells them for every table.
@dataclass_transform(
    kw_only_default=True, eq_default=False, field_specifiers=(MappedColumn, mapped_column)
)
class Base(MappedAsDataclass, DeclarativeBase, kw_only=True, eq=False, repr=False):
    """Base of all rows: a typed keyword constructor, identity comparison, a repr without data."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        bytes: LargeBinary,
        int: BigInteger,
        str: Text,
        Decimal: Numeric(20, 3),
        uuid.UUID: Uuid,
    }
    # RETURNING fetches trigger-made values such as updated_at, so rows stay readable when detached.
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012 - declared by SQLAlchemy

    def __repr__(self) -> str:
        """Show the identity only: columns may hold personal or secret data."""
        keys = self.__mapper__.primary_key
        shown = ", ".join(f"{key.key}={self.__dict__.get(str(key.key))!r}" for key in keys)
        return f"{type(self).__name__}({shown})"


class Timestamped(MappedAsDataclass, kw_only=True, eq=False, repr=False):
    """Adds ``created_at`` and ``updated_at``; the latter is kept by a trigger."""

    created_at: Mapped[created_time] = mapped_column(init=False, sort_order=90)
    updated_at: Mapped[updated_time] = mapped_column(init=False, sort_order=91)
