"""Where roles and grants are found, and everything that decides what an account may do."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import BigInteger, and_, bindparam, delete, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from rootstream_db.errors import NotFoundError
from rootstream_db.models.access import (
    AccessState,
    AccessVersion,
    Role,
    RoleGrant,
    RoleParent,
    RolePermission,
)
from rootstream_db.models.users import User
from rootstream_db.repositories.base import Repository
from rootstream_db.security.permissions import Grant, PermissionSet, RoleDefinition

_STATE: Final = 1
"""The id of the one row of ``access_state``."""


@dataclass(frozen=True, slots=True)
class StoredRoles:
    """All roles as one statement saw them, and their generation."""

    generation: int
    roles: tuple[RoleDefinition, ...]


@dataclass(frozen=True, slots=True)
class StoredAccess:
    """What decides about one account, as one statement saw it.

    Attributes:
        version: how often it has changed.
        generation: the generation of all roles.
        is_active: whether the account is open.
        grants: those that have not expired.
    """

    version: int
    generation: int
    is_active: bool
    grants: tuple[Grant, ...]


class RoleRepository(Repository[Role]):
    """Roles, found by name, with what they hold and inherit."""

    model = Role

    def get_by_name(self, name: str) -> Role | None:
        """Return the role with that name, or None."""
        return self.session.scalar(select(Role).where(Role.name == name))

    def get_one_by_name(self, name: str) -> Role:
        """Return the role with that name.

        Raises:
            NotFoundError: there is none.
        """
        role = self.get_by_name(name)
        if role is None:
            raise NotFoundError(Role.__name__, name)
        return role

    def list_all(self) -> Sequence[Role]:
        """Return all roles by name."""
        return self.session.scalars(select(Role).order_by(Role.name)).all()

    def hold_still(self) -> int:
        """Keep others from changing any role until the unit ends; return the generation."""
        query = select(AccessState.generation).where(AccessState.id == _STATE).with_for_update()
        return self.session.scalars(query).one()

    def next_generation(self, now: datetime) -> int:
        """Raise the generation of all roles and return it.

        It is at least the time in milliseconds, so that no two histories of a database that was
        restored have the same one: processes that live through it keep roles by their generation.
        """
        milliseconds = int(now.timestamp() * 1000)
        query = (
            update(AccessState)
            .where(AccessState.id == _STATE)
            .values(generation=func.greatest(AccessState.generation + 1, milliseconds))
            .returning(AccessState.generation)
            .execution_options(synchronize_session=False)
        )
        return self.session.scalars(query).one()

    def load(self) -> StoredRoles:
        """Return all roles, what they hold and inherit, in one statement."""
        held = (
            select(func.array_agg(RolePermission.permission))
            .where(RolePermission.role_id == Role.id)
            .scalar_subquery()
        )
        parents = (
            select(func.array_agg(RoleParent.parent_id))
            .where(RoleParent.role_id == Role.id)
            .scalar_subquery()
        )
        query = (
            select(AccessState.generation, Role.id, Role.name, held, parents)
            .outerjoin(Role, Role.id.is_not(None))
            .where(AccessState.id == _STATE)
        )
        rows = self.session.execute(query).all()
        roles = (
            RoleDefinition(
                id=role_id,
                name=name,
                permissions=PermissionSet(patterns or ()),
                parents=frozenset(above or ()),
            )
            for _, role_id, name, patterns, above in rows
            if role_id is not None
        )
        return StoredRoles(rows[0][0], tuple(roles))

    def list_permissions(self, role_id: int) -> list[str]:
        """Return the patterns that a role holds itself."""
        query = select(RolePermission.permission).where(RolePermission.role_id == role_id)
        return sorted(self.session.scalars(query))

    def replace_permissions(self, role_id: int, patterns: Iterable[str]) -> None:
        """Let a role hold these patterns and no others."""
        self.session.execute(delete(RolePermission).where(RolePermission.role_id == role_id))
        rows = [{"role_id": role_id, "permission": one} for one in sorted(set(patterns))]
        if rows:
            self.session.execute(insert(RolePermission), rows)

    def list_parents(self, role_id: int) -> list[str]:
        """Return the names of the roles that a role inherits from directly."""
        query = (
            select(Role.name)
            .join(RoleParent, RoleParent.parent_id == Role.id)
            .where(RoleParent.role_id == role_id)
        )
        return sorted(self.session.scalars(query))

    def list_children(self, role_id: int) -> list[str]:
        """Return the names of the roles that inherit from a role directly."""
        query = (
            select(Role.name)
            .join(RoleParent, RoleParent.role_id == Role.id)
            .where(RoleParent.parent_id == role_id)
        )
        return sorted(self.session.scalars(query))

    def add_parent(self, role_id: int, parent_id: int) -> bool:
        """Let a role inherit from another one; return False if it did already."""
        query = (
            insert(RoleParent)
            .values(role_id=role_id, parent_id=parent_id)
            .on_conflict_do_nothing()
            .returning(RoleParent.role_id)
        )
        return self.session.scalar(query) is not None

    def remove_parent(self, role_id: int, parent_id: int) -> bool:
        """Let a role no longer inherit from another one; return False if it did not."""
        query = (
            delete(RoleParent)
            .where(RoleParent.role_id == role_id, RoleParent.parent_id == parent_id)
            .returning(RoleParent.role_id)
        )
        return self.session.scalar(query) is not None


class RoleGrantRepository(Repository[RoleGrant]):
    """Grants, found by account, role or stream."""

    model = RoleGrant

    def find(self, user_id: int, role_id: int, stream_id: int | None) -> RoleGrant | None:
        """Return an account's grant of a role at that scope as it is now, or None."""
        query = select(RoleGrant).where(
            RoleGrant.user_id == user_id,
            RoleGrant.role_id == role_id,
            RoleGrant.stream_id.is_not_distinct_from(stream_id),
        )
        return self.session.scalar(query.execution_options(populate_existing=True))

    def put(
        self,
        user_id: int,
        role_id: int,
        stream_id: int | None,
        *,
        granted_by: int | None,
        expires_at: datetime | None,
    ) -> RoleGrant:
        """Grant a role, or give the grant that is there a new expiry."""
        given = {"granted_by": granted_by, "expires_at": expires_at}
        query = (
            insert(RoleGrant)
            .values(user_id=user_id, role_id=role_id, stream_id=stream_id, **given)
            .on_conflict_do_update(
                index_elements=[RoleGrant.user_id, RoleGrant.role_id, RoleGrant.stream_id],
                set_=given,
            )
            .returning(RoleGrant)
            .execution_options(populate_existing=True)
        )
        return self.session.scalars(query).one()

    def remove(self, grant_id: int) -> bool:
        """Delete a grant; return False if it was gone already."""
        query = delete(RoleGrant).where(RoleGrant.id == grant_id).returning(RoleGrant.id)
        return self.session.scalar(query) is not None

    def list_of_user(self, user_id: int) -> Sequence[tuple[RoleGrant, str]]:
        """Return an account's grants, expired ones included, with the names of their roles."""
        query = (
            select(RoleGrant, Role.name)
            .join(Role, Role.id == RoleGrant.role_id)
            .where(RoleGrant.user_id == user_id)
            .order_by(RoleGrant.id)
        )
        return [(grant, name) for grant, name in self.session.execute(query)]

    def list_of_role(
        self, role_id: int, *, after_id: int = 0, limit: int = 100
    ) -> Sequence[RoleGrant]:
        """Return who has a role, in the order they were granted it."""
        query = select(RoleGrant).where(RoleGrant.role_id == role_id, RoleGrant.id > after_id)
        return self.session.scalars(query.order_by(RoleGrant.id).limit(limit)).all()

    def list_of_stream(
        self, stream_id: int, *, after_id: int = 0, limit: int = 100
    ) -> Sequence[RoleGrant]:
        """Return the grants on a stream, in the order they were made."""
        query = select(RoleGrant).where(RoleGrant.stream_id == stream_id, RoleGrant.id > after_id)
        return self.session.scalars(query.order_by(RoleGrant.id).limit(limit)).all()

    def delete_expired(self, before: datetime, *, limit: int = 1000) -> int:
        """Delete at most ``limit`` grants that expired before a time; return how many."""
        batch = (
            select(RoleGrant.id)
            .where(RoleGrant.expires_at < before)
            .order_by(RoleGrant.expires_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        query = delete(RoleGrant).where(RoleGrant.id.in_(batch)).returning(RoleGrant.id)
        return len(self.session.scalars(query).all())


class AccessRepository:
    """What decides about accounts, and how often it has changed."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def load(self, user_id: int, now: datetime) -> StoredAccess | None:
        """Return what decides about an account in one statement; None if there is no such one."""
        rows = self.session.execute(_LOAD, {"user_id": user_id, "now": now}).all()
        if not rows:
            return None
        active, version, generation, *_ = rows[0]
        grants = tuple(Grant(*row[3:]) for row in rows if row[3] is not None)
        return StoredAccess(version, generation, active, grants)

    def get_generation(self) -> int:
        """Return the generation of all roles."""
        return self.session.scalars(_GENERATION).one()

    def raise_versions(self, user_ids: Collection[int]) -> dict[int, int]:
        """Raise the versions of accounts and return them; accounts that are gone are left out.

        The rows are locked in the order of the ids, so that two units cannot wait for one another.
        """
        existing = select(User.id).where(User.id.in_(user_ids)).order_by(User.id)
        known = AccessVersion
        first = existing.add_columns(literal(1, BigInteger))
        adding = insert(known).from_select(["user_id", "version"], first)
        query = adding.on_conflict_do_update(
            index_elements=[known.user_id], set_={"version": known.version + 1}
        ).returning(known.user_id, known.version)
        return {user_id: version for user_id, version in self.session.execute(query)}  # noqa: C416 - dict() loses the types


_GENERATION: Final = select(AccessState.generation).where(AccessState.id == _STATE)
_LOAD: Final = (
    select(
        User.is_active,
        func.coalesce(AccessVersion.version, 0),
        _GENERATION.scalar_subquery(),
        RoleGrant.role_id,
        RoleGrant.stream_id,
        RoleGrant.expires_at,
    )
    .select_from(User)
    .outerjoin(AccessVersion, AccessVersion.user_id == User.id)
    .outerjoin(
        RoleGrant,
        and_(
            RoleGrant.user_id == User.id,
            or_(RoleGrant.expires_at.is_(None), RoleGrant.expires_at > bindparam("now")),
        ),
    )
    .where(User.id == bindparam("user_id"))
)
