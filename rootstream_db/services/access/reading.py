"""What accounts may do, from the cache first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import orjson

from rootstream_db.cache.keys import ACCESS_ROLES, ACCESS_USER
from rootstream_db.clock import Clock
from rootstream_db.database import Database
from rootstream_db.security.permissions import (
    NO_PERMISSIONS,
    NOTHING,
    EffectivePermissions,
    Grant,
    PermissionSet,
    RoleGraph,
    effective_permissions,
)
from rootstream_db.services.access.fence import Entry, FencedCache

if TYPE_CHECKING:
    from rootstream_db.cache import RedisCache
    from rootstream_db.settings import AccessSettings

MOST_REMEMBERED: Final = 10_000
"""Accounts whose permissions a process keeps worked out; Redis is asked each time all the same."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Standing:
    """What an account may do.

    Attributes:
        is_active: whether the account is there and open; what is not may do nothing.
        permissions: by its grants and by the role that everybody has.
        as_owner: what it may do beside that on a stream of its own.
    """

    is_active: bool
    permissions: EffectivePermissions
    as_owner: PermissionSet


NOBODY: Final = Standing(is_active=False, permissions=NO_PERMISSIONS, as_owner=NOTHING)
"""The standing of an account that is closed or that there is not."""


@dataclass(frozen=True, slots=True)
class _Roles:
    """All roles of one generation."""

    generation: int
    graph: RoleGraph


@dataclass(frozen=True, slots=True)
class _Worked:
    """What grants and roles came to."""

    payload: bytes
    roles: _Roles
    standing: Standing


class AccessReader:
    """Answers what an account may do, with one call of Redis as long as nothing has changed.

    Redis holds the grants of accounts and the generation of all roles; the roles themselves are
    kept in the process for as long as their generation is the one. What they come to is worked out
    at the time of the question, so that a grant ends at its very instant.
    """

    def __init__(
        self,
        database: Database,
        cache: RedisCache,
        fence: FencedCache,
        *,
        settings: AccessSettings,
        clock: Clock,
    ) -> None:
        self._database = database
        self._cache = cache
        self._fence = fence
        self._settings = settings
        self._clock = clock
        self._roles_key = cache.key(ACCESS_ROLES)
        self._roles: _Roles | None = None
        self._worked: dict[int, _Worked] = {}

    def standing(self, user_id: int) -> Standing:
        """Return what an account may do now."""
        user_key = self._cache.key(ACCESS_USER, user_id=user_id)
        entry, of_roles = self._fence.get(user_key, self._roles_key)
        if entry is not None and of_roles is not None:
            return self._work_out(user_id, entry.payload, self._roles_of(of_roles.version))
        now = self._clock()
        with self._database.read() as work:
            stored = work.access.load(user_id, now)
        if stored is None:
            return NOBODY
        if entry is None:
            entry = Entry(stored.version, now, _packed(stored.grants if stored.is_active else None))
            self._fence.fill(user_key, entry)
        if of_roles is None:
            self._fence.fill(self._roles_key, Entry(stored.generation, now, b""))
        return self._work_out(user_id, entry.payload, self._roles_of(stored.generation))

    def owns(self, user_id: int, stream_id: int) -> bool:
        """Whether a stream is an account's; PostgreSQL is asked each time."""
        with self._database.read() as work:
            stream = work.streams.get(stream_id)
        return stream is not None and stream.owner_id == user_id

    def _roles_of(self, generation: int) -> _Roles:
        """Return the roles of that generation, or of the one that has come since."""
        roles = self._roles
        if roles is None or roles.generation != generation:
            with self._database.read() as work:
                stored = work.roles.load()
            roles = self._roles = _Roles(stored.generation, RoleGraph(stored.roles))
        return roles

    def _work_out(self, user_id: int, payload: bytes, roles: _Roles) -> Standing:
        now = self._clock()
        worked = self._worked.get(user_id)
        if worked is None or worked.payload != payload or worked.roles is not roles:
            worked = None
        elif worked.standing.permissions.until is not None:
            worked = worked if now < worked.standing.permissions.until else None
        if worked is None:
            worked = _Worked(payload, roles, self._standing(payload, roles.graph, now))
            if len(self._worked) >= MOST_REMEMBERED:
                self._worked.clear()
            self._worked[user_id] = worked
        return worked.standing

    def _standing(self, payload: bytes, graph: RoleGraph, now: datetime) -> Standing:
        grants = _unpacked(payload)
        if grants is None:
            return NOBODY
        everyone, owner = (
            graph.id_of(name) for name in (self._settings.everyone_role, self._settings.owner_role)
        )
        if everyone is not None:
            grants.append(Grant(everyone))
        return Standing(
            is_active=True,
            permissions=effective_permissions(graph, grants, now),
            as_owner=NOTHING if owner is None else graph.permissions(owner),
        )


def _packed(grants: Iterable[Grant] | None) -> bytes:
    """Return grants as they are cached; None stands for an account that is closed."""
    if grants is None:
        return b"null"
    return orjson.dumps([(one.role_id, one.stream_id, _ticks(one.expires_at)) for one in grants])


def _unpacked(payload: bytes) -> list[Grant] | None:
    rows = orjson.loads(payload)
    if rows is None:
        return None
    return [
        Grant(role_id, stream_id, None if ends is None else _EPOCH + ends * _MICROSECOND)
        for role_id, stream_id, ends in rows
    ]


def _ticks(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - _EPOCH) // _MICROSECOND
