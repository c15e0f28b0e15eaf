"""Who wants to do something: an account, or what stands for one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias

from rootstream_db.models import User
from rootstream_db.security.permissions import PermissionSet


class ActsForUser(Protocol):
    """Whatever stands for an account: a session that was validated, for example."""

    @property
    def user_id(self) -> int:
        """The account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeyInfo:
    """An API key that was authenticated: it acts for its account, within its scopes.

    Attributes:
        key_id: the key's row.
        user_id: the account it acts for.
        label: what it is for.
        scopes: the most it may do; its account may be allowed less.
        expires_at: when it ends; None: never.
    """

    key_id: int
    user_id: int
    label: str
    scopes: PermissionSet
    expires_at: datetime | None


Subject: TypeAlias = int | User | ActsForUser
"""Who wants to do something: an account, its id, a session or an API key of it."""


def account_of(subject: Subject) -> int:
    """Return the id of the account that a subject is or stands for."""
    if isinstance(subject, int):
        return subject
    return subject.id if isinstance(subject, User) else subject.user_id


def scopes_of(subject: Subject) -> PermissionSet | None:
    """Return what a subject is limited to; None: to nothing but what its account may do."""
    return subject.scopes if isinstance(subject, ApiKeyInfo) else None
