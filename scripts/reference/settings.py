"""The page of every setting."""

from __future__ import annotations

import types
import typing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rootstream_db.settings import Settings, sources
from scripts.reference.markdown import code, summary, table

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

INTRODUCTION = """\
# Settings

An argument wins over a `ROOTSTREAM_…` variable, that over the variable with `_FILE` appended (the
content of the file it names; setting both is an error), that over the TOML file, that over the
default. In the TOML file a section is a table: `[database]`.

Durations and seconds take a number of seconds or a text with a unit: `500ms`, `90s`, `15 min`,
`24h`."""
HEADINGS = ("setting", "variable", "type", "default", "meaning")
LIMITS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "length ≥"}
TYPES = {timedelta: "duration", float: "seconds", int: "number", str: "text", bool: "yes or no"}


def render() -> str:
    """Return the page."""
    lines = [INTRODUCTION]
    for section, info in Settings.model_fields.items():
        model: Any = info.annotation
        rows = [_row(section, name, field) for name, field in model.model_fields.items()]
        lines += ["", f"## {section}", "", summary(model), "", *table(*HEADINGS, rows=rows)]
    return "\n".join(lines)


def _row(section: str, name: str, field: FieldInfo) -> list[str]:
    setting = f"{section}.{name}"
    fallbacks = [other for other, target in sources.FALLBACKS.items() if target == setting]
    return [
        code(name),
        " or ".join(code(variable) for variable in [sources.variable(setting), *fallbacks]),
        _type(field.annotation) + _limits(field),
        code(_value(field.default)),
        field.description or "",
    ]


def _type(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return ", ".join(code(choice) for choice in arguments)
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(_type(part) for part in arguments if part is not type(None))
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    return TYPES.get(annotation) or str(annotation.__name__).removesuffix("Str").lower()


def _limits(field: FieldInfo) -> str:
    limits = [
        f"{sign} {_value(getattr(item, attribute))}"
        for item in field.metadata
        for attribute, sign in LIMITS.items()
        if getattr(item, attribute, None) is not None
    ]
    return f" ({', '.join(limits)})" if limits else ""


def _value(value: object) -> str:
    if value in (None, ()):
        return ""
    if isinstance(value, timedelta):
        return _length(value.total_seconds())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _length(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
