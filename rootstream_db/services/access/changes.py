"""What a unit of work changes about access, put out of use in Redis just before it commits."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from rootstream_db.cache.keys import ACCESS_ROLES, ACCESS_USER, Key
from rootstream_db.clock import Clock
from rootstream_db.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    from rootstream_db.cache import RedisCache
    from rootstream_db.services.access.fence import FencedCache

_PENDING: Final = "access.changes"


@dataclass(slots=True)
class AccessChange:
    """When a change counts everywhere; known once its unit of work is committed.

    Attributes:
        immediate: whether it counts everywhere since the commit.
        effective_by: when it counts everywhere at the latest.
    """

    immediate: bool | None = None
    effective_by: datetime | None = None


@dataclass(slots=True)
class _Pending:
    """One change of a unit: of an account, of all roles, or of what has a version already."""

    change: AccessChange = field(default_factory=AccessChange)
    user_id: int | None = None
    is_of_roles: bool = False
    floor: tuple[Key, int] | None = None


class AccessChanges:
    """Collects the changes of units of work.

    Versions are raised, and floors written, last before the commit: their rows are locked, and
    Redis is waited for, for the shortest time.
    """

    def __init__(self, cache: RedisCache, fence: FencedCache, clock: Clock) -> None:
        self._cache = cache
        self._fence = fence
        self._clock = clock

    def of_user(self, work: UnitOfWork, user_id: int) -> AccessChange:
        """Note that what an account may do changes."""
        return self._note(work, _Pending(user_id=user_id))

    def of_account(self, work: UnitOfWork, user_id: int) -> AccessChange:
        """Note that an account itself changes or goes; its version is raised at once.

        At the commit the account may not be there any more.
        """
        version = work.access.raise_versions([user_id]).get(user_id, 0)
        return self.of_version(work, self._user_key(user_id), version)

    def of_roles(self, work: UnitOfWork) -> AccessChange:
        """Note that a role changes; the caller holds the roles still."""
        return self._note(work, _Pending(is_of_roles=True))

    def of_version(self, work: UnitOfWork, key: Key, version: int) -> AccessChange:
        """Note that the value of a key is out of use below a version."""
        return self._note(work, _Pending(floor=(key, version)))

    def _note(self, work: UnitOfWork, pending: _Pending) -> AccessChange:
        work.pending(_PENDING).append(pending)
        work.before_commit(lambda: self._settle(work), key=_PENDING)
        return pending.change

    def _settle(self, work: UnitOfWork) -> None:
        noted: list[_Pending] = work.pending(_PENDING)
        floors = [one.floor for one in noted if one.floor is not None]
        if user_ids := {one.user_id for one in noted if one.user_id is not None}:
            versions = work.access.raise_versions(user_ids)
            floors += [(self._user_key(user_id), new) for user_id, new in versions.items()]
        if any(one.is_of_roles for one in noted):
            floors.append((self._cache.key(ACCESS_ROLES), work.roles.next_generation(work.now)))
        immediate = self._fence.raise_floors(dict(floors)) if floors else True
        now = self._clock()
        for one in noted:
            one.change.immediate = immediate
            one.change.effective_by = now if immediate else now + self._fence.max_stale

    def _user_key(self, user_id: int) -> Key:
        return self._cache.key(ACCESS_USER, user_id=user_id)
