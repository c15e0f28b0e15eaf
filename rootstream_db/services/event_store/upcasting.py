"""Old events in the form of today: brought up to date as they are read, never where they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from rootstream_db.errors import ConflictError, UnknownEventVersionError, ValidationError
from rootstream_db.repositories.events import RecordedEvent

Upcast = Callable[[dict[str, Any]], dict[str, Any]]
Function = TypeVar("Function", bound=Upcast)


class Upcasters:
    """Knows how the data of each event type changed its form.

    An event type that nobody declared is handed on as it was written, whatever its version.
    """

    def __init__(self) -> None:
        self._steps: dict[tuple[str, int], Upcast] = {}
        self._current: dict[str, int] = {}

    def __bool__(self) -> bool:
        """Whether any event type was declared."""
        return bool(self._current)

    def upcasts(self, event_type: str, *, from_version: int) -> Callable[[Function], Function]:
        """Declare the decorated function to turn data of that version into the next one.

        Raises:
            ConflictError: there is a function for the version.
            ValidationError: it is no version.
        """
        self.declare(event_type, version=from_version + 1)

        def register(function: Function) -> Function:
            key = (event_type, from_version)
            if key in self._steps:
                raise ConflictError(f"version {from_version} of {event_type} has an upcaster")
            self._steps[key] = function
            return function

        return register

    def declare(self, event_type: str, *, version: int) -> None:
        """Say which versions of an event type this program understands: up to this one.

        Raises:
            ValidationError: it is no version.
        """
        if version < 1:
            raise ValidationError("versions begin with 1", field="version")
        self._current[event_type] = max(version, self._current.get(event_type, 1))

    def apply(self, event: RecordedEvent) -> RecordedEvent:
        """Return the event in its current form.

        Raises:
            UnknownEventVersionError: it is of a version that this program does not understand.
        """
        current = self._current.get(event.event_type)
        if current is None or event.schema_version == current:
            return event
        if event.schema_version > current:
            raise _unknown(event, f"this program knows versions up to {current}")
        data = event.data
        for version in range(event.schema_version, current):
            step = self._steps.get((event.event_type, version))
            if step is None:
                raise _unknown(event, f"there is no upcaster from version {version}")
            data = step(data)
        return replace(event, data=data, schema_version=current)


def _unknown(event: RecordedEvent, reason: str) -> UnknownEventVersionError:
    return UnknownEventVersionError(
        event.event_type, version=event.schema_version, position=event.position, reason=reason
    )
