"""The page of every table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Column, Dialect, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import AddConstraint, CreateIndex, ExecutableDDLElement

from rootstream_db.models import Base
from scripts.reference.markdown import code, paragraph, table

INTRODUCTION = """\
# Schema

Owned by Alembic: `rootstream-db db upgrade` brings a database here. Times are `timestamptz` in UTC,
sizes are bytes, durations carry their unit in the name."""
DIALECT: Dialect = postgresql.psycopg.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's


def render() -> str:
    """Return the page."""
    lines = [INTRODUCTION]
    for name, model in sorted(_models().items()):
        stored: Table = model.__table__
        rows = [_row(column) for column in stored.columns]
        lines += ["", f"## {name}", "", f"{_sentence(model)} Model: `{model.__name__}`."]
        lines += ["", *table("column", "type", "null", "default", rows=rows), "", *_rules(stored)]
    return "\n".join(lines)


def _models() -> dict[str, Any]:
    mappers = Base.registry.mappers
    return {mapper.class_.__tablename__: mapper.class_ for mapper in mappers}


def _sentence(model: object) -> str:
    return " ".join(paragraph(model).split())


def _row(column: Column[Any]) -> list[str]:
    shown_type = column.type.compile(DIALECT).lower()
    null = "" if column.nullable else "not null"
    return [code(column.name), code(shown_type), null, _server_default(column)]


def _server_default(column: Column[Any]) -> str:
    if column.identity is not None:
        return "identity"
    default = getattr(column.server_default, "arg", None)
    return "" if default is None else code(str(default))


def _rules(stored: Table) -> Iterator[str]:
    statements: dict[str, ExecutableDDLElement] = {
        **{str(item.name): AddConstraint(item) for item in stored.constraints},
        **{str(item.name): CreateIndex(item) for item in stored.indexes},
    }
    for name, statement in sorted(statements.items()):
        text = " ".join(str(statement.compile(dialect=DIALECT)).split())
        kind = "unique index " if text.startswith("CREATE UNIQUE") else ""
        rule = text.partition(f"{name} ")[2].removeprefix(f"ON {stored.name} ")
        yield f"- `{name}`: {kind}`{rule}`"
    if partitions := stored.dialect_options["postgresql"].get("partition_by"):
        yield f"- partitioned by `{partitions}`"
