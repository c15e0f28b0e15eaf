"""Every setting as a line of text: for ``config show`` and for the reference page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from rootstream_db.settings.models import Settings
from rootstream_db.settings.sources import variable
from rootstream_db.settings.urls import POSTGRES_SCHEMES, REDIS_SCHEMES, parse_url

_MASK: Final = "***"


@dataclass(frozen=True, kw_only=True)
class ListedSetting:
    """One setting as people see it; a secret as stars, a URL without its password."""

    name: str
    variable: str
    value: str
    default: str
    source: str
    description: str


def listing(settings: Settings) -> list[ListedSetting]:
    """Return every setting in order of definition."""
    sources = settings.sources
    return [
        ListedSetting(
            name=name,
            variable=variable(name),
            value=shown(value),
            default=shown(info.get_default()),
            source=sources[name],
            description=info.description or "",
        )
        for name, info, value in _fields(settings)
    ]


def shown(value: object) -> str:
    """Return a value as text that gives no secret away."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ", ".join(shown(item) for item in value)
    if isinstance(value, SecretStr):
        return _masked(value.get_secret_value())
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    return str(value)


def _fields(settings: Settings) -> Iterator[tuple[str, FieldInfo, Any]]:
    for section in type(settings).model_fields:
        group = getattr(settings, section)
        for key, info in type(group).model_fields.items():
            yield f"{section}.{key}", info, getattr(group, key)


def _masked(secret: str) -> str:
    try:
        return parse_url(secret, schemes=POSTGRES_SCHEMES + REDIS_SCHEMES).masked()
    except ValueError:
        return _MASK
