"""What every group of settings shares: frozen, no unknown names, errors that never show a value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic import ValidationError as PydanticValidationError

from rootstream_db.errors import ConfigurationError

_UNITS: Final[Mapping[str, float]] = {
    "ms": 0.001,
    "s": 1,
    "sec": 1,
    "min": 60,
    "m": 60,
    "h": 3600,
    "d": 86400,
}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|sec|min|m|h|d)?")


class Section(BaseModel):
    """A frozen group of settings; a wrong one is a ``ConfigurationError`` that names it."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=False,
        # pydantic would print the value given, which may be a password.
        hide_input_in_errors=True,
    )

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except PydanticValidationError as error:
            # Not chained: pydantic's error object keeps every value it was given.
            raise problems_error(list(problems(error))) from None


class Problem(tuple[str, str]):
    """A setting's dotted name and what is wrong with it."""

    __slots__ = ()

    @property
    def setting(self) -> str:
        """Return the dotted name, such as ``database.pool_size``."""
        return self[0]

    @property
    def text(self) -> str:
        """Return what is wrong, without the value."""
        return self[1]


def problems(error: PydanticValidationError) -> Iterator[Problem]:
    """Yield what pydantic found, down to the settings inside sections."""
    for item in error.errors(include_url=False, include_input=False):
        location = ".".join(str(part) for part in item["loc"])
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, ConfigurationError) and "problems" in cause.context:
            for name, text in cause.context["problems"]:
                yield Problem((f"{location}.{name}", text))
        else:
            yield Problem((location, _text(item["type"], item["msg"])))


def problems_error(
    found: Sequence[Problem], *, sources: Mapping[str, str] | None = None
) -> ConfigurationError:
    """Return one error that lists every problem, with the source of each setting if known."""
    lines = [_line(problem, (sources or {}).get(problem.setting)) for problem in found]
    text = lines[0] if len(lines) == 1 else "\n  ".join([f"{len(lines)} settings:", *lines])
    return ConfigurationError(
        f"wrong configuration: {text}",
        setting=found[0].setting,
        problems=[tuple(problem) for problem in found],
    )


def _line(problem: Problem, source: str | None) -> str:
    origin = f" (from {source})" if source else ""
    return f"{problem.setting}{origin}: {problem.text}"


def _text(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "there is no such setting"
    return message.removeprefix("Value error, ")


def _seconds(value: object) -> object:
    """Read ``90``, ``"90s"``, ``"15 min"``, ``"24h"`` as seconds; leave the rest to pydantic."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip().lower())):
        return float(match[1]) * _UNITS[match[2] or "s"]
    return value


def _duration(value: object) -> object:
    seconds = _seconds(value)
    if isinstance(seconds, int | float) and not isinstance(seconds, bool):
        return timedelta(seconds=seconds)
    return seconds


Seconds = Annotated[float, BeforeValidator(_seconds)]
"""A number of seconds; text may carry a unit: ``"500ms"``, ``"30s"``, ``"15 min"``."""

Duration = Annotated[timedelta, BeforeValidator(_duration)]
"""A length of time; a number means seconds, text may carry a unit: ``"24h"``, ``"PT15M"``."""
