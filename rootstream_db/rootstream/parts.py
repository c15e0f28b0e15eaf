"""Attributes that are built on first use, once, and closed together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar, overload

if TYPE_CHECKING:
    from types import TracebackType


class Closable(Protocol):
    """Whatever has to be closed."""

    def close(self) -> None:
        """Release what is held."""


T = TypeVar("T")
C = TypeVar("C", bound=Closable)


class Parts:
    """Something made of parts."""

    def __init__(self) -> None:
        self._parts: dict[str, Any] = {}
        self._lock = threading.RLock()
        self._resources = ExitStack()

    def part(self, name: str, build: Callable[[Any], T]) -> T:
        """Return the named part, building it if this is its first use."""
        if name not in self._parts:
            with self._lock:
                if name not in self._parts:
                    self._parts[name] = build(self)
        built: T = self._parts[name]
        return built

    def close(self) -> None:
        """Release connections and threads; embedded servers stop with their last user."""
        with self._lock:
            self._parts.clear()
            self._resources.close()

    def _closing(self, resource: C) -> C:
        self._resources.callback(resource.close)
        return resource

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Part(Generic[T]):
    """An attribute built on first use, once, whichever thread comes first."""

    def __init__(self, build: Callable[[Any], T]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Part[T]: ...
    @overload
    def __get__(self, instance: Parts, owner: type) -> T: ...
    def __get__(self, instance: Parts | None, owner: type) -> Part[T] | T:
        if instance is None:
            return self
        built: T = instance.part(self._name, self._build)
        return built
