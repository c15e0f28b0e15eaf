"""What all errors have in common: data as attributes, a stable code, a severity."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

from rootstream_db.correlation import current_correlation_id


class Severity(StrEnum):
    """How urgently an operator should look: a wrong password is low, split brain is critical."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class RootStreamError(Exception):
    """Base of every error this package raises on purpose.

    Attributes:
        code: stable dotted name for programs, e.g. ``storage.conflict``.
        severity: how urgent the failure is for an operator.
        retryable: whether the same call may succeed if simply made again.
        context: facts about the failure, never secrets.
        correlation_id: the id of the work in progress when the error was made.
    """

    code: ClassVar[str] = "rootstream"
    severity: ClassVar[Severity] = Severity.MEDIUM
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **context: Any) -> None:
        super().__init__(message)
        self.context: dict[str, Any] = context
        self.correlation_id = current_correlation_id()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by state, because subclasses build their message from other arguments."""
        return (_rebuild, (type(self), self.args, self.__dict__))

    def as_dict(self) -> dict[str, Any]:
        """Return the error as JSON-ready data, the form ``--json`` prints."""
        return {
            "code": self.code,
            "message": str(self),
            "severity": self.severity.value,
            "retryable": self.retryable,
            "context": {key: _plain(value) for key, value in self.context.items()},
            "correlation_id": self.correlation_id,
        }


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _rebuild(
    cls: type[RootStreamError], args: tuple[Any, ...], state: dict[str, Any]
) -> RootStreamError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error
