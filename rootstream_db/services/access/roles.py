"""Roles as administrators see them: made, filled, joined to one another, removed."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from rootstream_db.errors import ConflictError, ValidationError
from rootstream_db.models.access import Role
from rootstream_db.security.permissions import PermissionSet, RoleGraph
from rootstream_db.services.access.changes import AccessChange, AccessChanges
from rootstream_db.services.access.journal import AccessJournal
from rootstream_db.services.access.rules import check_description, check_role_name
from rootstream_db.unit_of_work import UnitOfWork


class RoleCatalogue:
    """What an administrator does with roles, in the caller's unit of work.

    Each change waits for others that change roles, and counts for everybody who has the role.
    """

    _changes: AccessChanges
    _journal: AccessJournal

    def create_role(
        self,
        work: UnitOfWork,
        name: str,
        *,
        permissions: Iterable[str] = (),
        parents: Collection[str] = (),
        description: str = "",
    ) -> Role:
        """Make a role that holds permissions and inherits those of its parents.

        Raises:
            ConflictError: there is one of that name.
            NotFoundError: a parent is not there.
            ValidationError: the name, the description or a permission cannot be used.
        """
        held = _permission_set(permissions)
        made = Role(name=check_role_name(name), description=check_description(description))
        work.roles.hold_still()
        if work.roles.get_by_name(name) is not None:
            raise ConflictError(f"there is a role {name!r} already", name=name)
        role = work.roles.add(made)
        work.roles.replace_permissions(role.id, held)
        for parent in parents:
            work.roles.add_parent(role.id, work.roles.get_one_by_name(parent).id)
        data = {"permissions": list(held), "parents": sorted(set(parents))}
        self._changed(work, role, "RoleCreated", data)
        return role

    def set_permissions(
        self, work: UnitOfWork, name: str, permissions: Iterable[str]
    ) -> AccessChange:
        """Let a role hold these permissions and no others; what it inherits stays.

        Raises:
            NotFoundError: there is no such role.
            ValidationError: a permission cannot be used.
        """
        held = _permission_set(permissions)
        role = self._held(work, name)
        before = set(work.roles.list_permissions(role.id))
        work.roles.replace_permissions(role.id, held)
        data = {"added": sorted(set(held) - before), "removed": sorted(before - set(held))}
        return self._changed(work, role, "RolePermissionsSet", data)

    def add_parent(self, work: UnitOfWork, name: str, parent: str) -> AccessChange:
        """Let a role inherit from another one.

        Raises:
            NotFoundError: one of them is not there.
            RoleCycleError: the other one inherits from it; ``path`` shows how.
        """
        role, above = self._held(work, name), work.roles.get_one_by_name(parent)
        RoleGraph(work.roles.load().roles).check_parent(role.id, above.id)
        work.roles.add_parent(role.id, above.id)
        return self._changed(work, role, "RoleParentAdded", {"parent": parent})

    def remove_parent(self, work: UnitOfWork, name: str, parent: str) -> AccessChange:
        """Let a role no longer inherit from another one.

        Raises:
            NotFoundError: one of them is not there.
        """
        role, above = self._held(work, name), work.roles.get_one_by_name(parent)
        work.roles.remove_parent(role.id, above.id)
        return self._changed(work, role, "RoleParentRemoved", {"parent": parent})

    def delete_role(self, work: UnitOfWork, name: str) -> AccessChange:
        """Remove a role; nobody has it any more.

        Raises:
            ConflictError: it is a built-in one: those can be emptied, not removed.
            NotFoundError: there is no such role.
        """
        role = self._held(work, name)
        if role.is_builtin:
            raise ConflictError(
                f"{name!r} is a built-in role: take its permissions away instead", name=name
            )
        change = self._changed(work, role, "RoleDeleted", {})
        work.roles.delete(role)
        return change

    def _held(self, work: UnitOfWork, name: str) -> Role:
        """Return the role, while nobody else can change any."""
        work.roles.hold_still()
        return work.roles.get_one_by_name(name)

    def _changed(
        self, work: UnitOfWork, role: Role, event: str, data: dict[str, Any]
    ) -> AccessChange:
        if role.is_builtin and role.customized_at is None:
            role.customized_at = work.now
        # Before the event: whoever appends one at the commit makes other writers wait, Redis less.
        change = self._changes.of_roles(work)
        self._journal.role(work, role, event, data)
        return change


def _permission_set(permissions: Iterable[str]) -> PermissionSet:
    if isinstance(permissions, str):
        raise ValidationError("permissions is a collection of names", field="permissions")
    return PermissionSet(permissions)
