"""Permissions, and what roles, inheritance and grants make of them. Pure: no clock, no I/O.

A permission is a name of two or more words, ``stream.update``. A role holds patterns: names,
``stream.*`` for everything below ``stream``, ``*`` for everything. What no pattern covers is
denied; nothing can be subtracted, so that the order of roles and grants never matters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, reduce
from operator import or_
from types import MappingProxyType
from typing import Final

from rootstream_db.errors import RoleCycleError, ValidationError

MAX_PERMISSION: Final = 100
"""Characters of the longest permission."""

EVERYTHING: Final = "*"
"""The pattern that covers every permission."""

_WORD: Final = r"[a-z][a-z0-9_-]*"
_NAME: Final = re.compile(rf"{_WORD}(\.{_WORD})+", re.ASCII)
_PATTERN: Final = re.compile(rf"\*|{_WORD}(\.{_WORD})*\.(\*|{_WORD})", re.ASCII)


@lru_cache(maxsize=4096)
def check_permission(name: str) -> str:
    """Return the name of one permission.

    Raises:
        ValidationError: it is none; a pattern is none either.
    """
    if len(name) > MAX_PERMISSION or _NAME.fullmatch(name) is None:
        raise ValidationError(
            f"{name[:MAX_PERMISSION]!r} is no permission: two or more lower-case words joined by "
            "dots, such as 'stream.update'",
            field="permission",
        )
    return name


def check_pattern(pattern: str) -> str:
    """Return what a role may hold: the name of a permission, ``stream.*`` or ``*``.

    Raises:
        ValidationError: it is none of these.
    """
    if len(pattern) > MAX_PERMISSION or _PATTERN.fullmatch(pattern) is None:
        raise ValidationError(
            f"{pattern[:MAX_PERMISSION]!r} is neither a permission such as 'stream.update' nor "
            "'stream.*' nor '*'",
            field="permission",
        )
    return pattern


class PermissionSet:
    """Patterns, less those that another one of them covers.

    >>> mine = PermissionSet(["stream.*", "chat.read"])
    >>> mine.allows("stream.key.rotate"), mine.allows("chat.write")
    (True, False)
    >>> list(mine & PermissionSet(["stream.update", "chat.*"]))
    ['chat.read', 'stream.update']

    Raises:
        ValidationError: one of them is no pattern.
    """

    __slots__ = ("_patterns",)

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        given = frozenset(map(check_pattern, patterns))
        self._patterns = frozenset(one for one in given if given.isdisjoint(_wider(one)))

    def allows(self, permission: str) -> bool:
        """Whether a pattern covers the permission.

        Raises:
            ValidationError: it is not the name of one.
        """
        return self.covers(check_permission(permission))

    def covers(self, pattern: str) -> bool:
        """Whether everything that the pattern stands for is allowed."""
        return pattern in self._patterns or not self._patterns.isdisjoint(_wider(pattern))

    def __and__(self, other: PermissionSet) -> PermissionSet:
        """Return what both allow."""
        mine = (one for one in self._patterns if other.covers(one))
        return PermissionSet([*mine, *(one for one in other._patterns if self.covers(one))])

    def __or__(self, other: PermissionSet) -> PermissionSet:
        """Return what either allows."""
        return PermissionSet(self._patterns | other._patterns)

    def __le__(self, other: PermissionSet) -> bool:
        """Whether the other one allows everything that this one does."""
        return all(map(other.covers, self._patterns))

    def __iter__(self) -> Iterator[str]:
        """Go through the patterns in their alphabetical order."""
        return iter(sorted(self._patterns))

    def __len__(self) -> int:
        return len(self._patterns)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PermissionSet) and self._patterns == other._patterns

    def __hash__(self) -> int:
        return hash(self._patterns)

    def __repr__(self) -> str:
        return f"PermissionSet({list(self)})"


def _wider(pattern: str) -> list[str]:
    """Return the patterns that cover this one and more."""
    words = pattern.removesuffix(".*").split(".")
    wider = [".".join(words[:count]) + ".*" for count in range(1, len(words))]
    return wider if pattern == EVERYTHING else [*wider, EVERYTHING]


NOTHING: Final = PermissionSet()
"""What is allowed by default."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleDefinition:
    """A role as it is stored: what it holds itself, and the roles it inherits from."""

    id: int
    name: str
    permissions: PermissionSet = NOTHING
    parents: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Grant:
    """A role that somebody has: everywhere or on one stream, for ever or for a time."""

    role_id: int
    stream_id: int | None = None
    expires_at: datetime | None = None

    def holds(self, now: datetime) -> bool:
        """Whether the grant counts; at the instant of its expiry it does not any more."""
        return self.expires_at is None or now < self.expires_at


class RoleGraph:
    """All roles, and which inherits from which."""

    def __init__(self, roles: Iterable[RoleDefinition] = ()) -> None:
        self._roles = {role.id: role for role in roles}
        self._ids = {role.name: role.id for role in self._roles.values()}
        self._inherited: dict[int, PermissionSet] = {}

    def id_of(self, name: str) -> int | None:
        """Return the id of the role with that name, or None."""
        return self._ids.get(name)

    def permissions(self, role_id: int) -> PermissionSet:
        """Return what a role holds, inherited permissions included; nothing if there is none."""
        known = self._inherited.get(role_id)
        if known is None:
            held = (self._roles[one].permissions for one in self.lineage(role_id))
            known = self._inherited[role_id] = reduce(or_, held, NOTHING)
        return known

    def lineage(self, role_id: int) -> frozenset[int]:
        """Return the role and all it inherits from, those that exist."""
        found: set[int] = set()
        waiting = [role_id]
        while waiting:
            role = self._roles.get(waiting.pop())
            if role is not None and role.id not in found:
                found.add(role.id)
                waiting.extend(role.parents)
        return frozenset(found)

    def check_parent(self, role_id: int, parent_id: int) -> None:
        """Make sure that a role may inherit from another one.

        Raises:
            RoleCycleError: that one inherits from the role already; ``path`` shows how.
        """
        path = self._path(parent_id, role_id)
        if path is not None:
            names = [self._roles[one].name for one in (role_id, *path)]
            raise RoleCycleError(names)

    def _path(self, start: int, end: int) -> list[int] | None:
        """Return the shortest way up from one role to another one, both included, or None."""
        ways = {start: [start]} if start in self._roles else {}
        frontier = list(ways)
        while frontier and end not in ways:
            reached = []
            for one in frontier:
                for parent in sorted(self._roles[one].parents & self._roles.keys()):
                    if parent not in ways:
                        ways[parent] = [*ways[one], parent]
                        reached.append(parent)
            frontier = reached
        return ways.get(end)


@dataclass(frozen=True, slots=True)
class EffectivePermissions:
    """What somebody may do, as it holds until one of the grants behind it expires.

    Attributes:
        everywhere: what is allowed on every stream, and where no stream is concerned.
        by_stream: what is allowed on single streams beside that.
        until: when the first of the grants expires; None if none does.
    """

    everywhere: PermissionSet
    by_stream: Mapping[int, PermissionSet]
    until: datetime | None

    def on(self, stream_id: int | None) -> PermissionSet:
        """Return what is allowed on a stream; None: where no stream is concerned."""
        narrow = None if stream_id is None else self.by_stream.get(stream_id)
        return self.everywhere if narrow is None else self.everywhere | narrow


NO_PERMISSIONS: Final = EffectivePermissions(NOTHING, MappingProxyType({}), None)
"""What somebody without any grant may do."""


def effective_permissions(
    graph: RoleGraph, grants: Iterable[Grant], now: datetime
) -> EffectivePermissions:
    """Return what the grants allow at an instant; a grant of a role there is not allows nothing."""
    holding = [grant for grant in grants if grant.holds(now)]
    everywhere = NOTHING
    by_stream: dict[int, PermissionSet] = {}
    for grant in holding:
        permissions = graph.permissions(grant.role_id)
        if grant.stream_id is None:
            everywhere |= permissions
        else:
            by_stream[grant.stream_id] = by_stream.get(grant.stream_id, NOTHING) | permissions
    ends = [grant.expires_at for grant in holding if grant.expires_at is not None]
    return EffectivePermissions(everywhere, MappingProxyType(by_stream), min(ends, default=None))
