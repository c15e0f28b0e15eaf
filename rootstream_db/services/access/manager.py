"""Access control: who may do what, and how an application makes sure of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rootstream_db.clock import Clock, utc_now
from rootstream_db.errors import ConfigurationError, PermissionDeniedError
from rootstream_db.security.permissions import PermissionSet, check_permission
from rootstream_db.services.access.changes import AccessChange, AccessChanges
from rootstream_db.services.access.fence import FencedCache
from rootstream_db.services.access.grants import GrantBook
from rootstream_db.services.access.identities import ExternalIdentities
from rootstream_db.services.access.journal import AccessJournal
from rootstream_db.services.access.keys import ApiKeys
from rootstream_db.services.access.reading import AccessReader
from rootstream_db.services.access.roles import RoleCatalogue
from rootstream_db.services.access.subjects import Subject, account_of, scopes_of
from rootstream_db.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    from rootstream_db.cache import RedisCache
    from rootstream_db.database import Database
    from rootstream_db.models import User
    from rootstream_db.security.token_mint import TokenMint
    from rootstream_db.services.event_store import EventStore
    from rootstream_db.services.privacy import ErasedUser, PrivacyManager
    from rootstream_db.services.sessions import SessionManager
    from rootstream_db.settings import AccessSettings


class AccessManager(RoleCatalogue, GrantBook):
    """Roles, grants, and what they allow; ``keys`` and ``identities`` beside them.

    Permissions are read from Redis first. A change is put out of use there before it commits, so
    that what was taken away is gone everywhere with the commit; while Redis cannot be reached,
    after ``cache.access_ttl`` at the latest.

    Args:
        database: where everything is stored.
        events: the log that changes are appended to.
        cache: where permissions are cached.
        fence: what keeps the cached ones from outliving a change.
        settings: the roles that nobody has to grant, and the overlap of rotated keys.
        tokens: the mint of API keys.
        sessions: what ends when an identity is unlinked.
        privacy: what answers persons who ask for their data, or for its end.
        clock: the source of the current time.
    """

    def __init__(
        self,
        database: Database,
        events: EventStore,
        *,
        cache: RedisCache,
        fence: FencedCache,
        settings: AccessSettings,
        tokens: TokenMint,
        sessions: SessionManager,
        privacy: Callable[[], PrivacyManager] | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self._privacy = privacy
        self._journal = AccessJournal(events)
        self._changes = AccessChanges(cache, fence, clock)
        self._reader = AccessReader(database, cache, fence, settings=settings, clock=clock)
        self.keys = ApiKeys(
            database,
            cache,
            fence,
            changes=self._changes,
            reader=self._reader,
            journal=self._journal,
            tokens=tokens,
            overlap=settings.key_overlap,
            clock=clock,
        )
        self.identities = ExternalIdentities(events, sessions)

    def permissions_of(self, subject: Subject, *, stream_id: int | None = None) -> PermissionSet:
        """Return what a subject may do: everywhere, or with a stream also on that one.

        For screens and reports; ``require`` is what guards an action.
        """
        user_id, scopes = account_of(subject), scopes_of(subject)
        standing = self._reader.standing(user_id)
        permissions = standing.permissions.on(stream_id)
        if stream_id is not None and standing.as_owner and self._reader.owns(user_id, stream_id):
            permissions |= standing.as_owner
        return permissions if scopes is None else permissions & scopes

    def require(self, subject: Subject, permission: str, *, stream_id: int | None = None) -> None:
        """Return only if the subject may do this; call it before the action it guards.

        Args:
            subject: who wants to do it.
            permission: the name of one permission.
            stream_id: the stream that is concerned, if one is.

        Raises:
            PermissionDeniedError: it may not; ``permission`` says what was missing.
            ValidationError: that is not the name of a permission.
        """
        check_permission(permission)
        user_id, scopes = account_of(subject), scopes_of(subject)
        in_scope = scopes is None or scopes.allows(permission)
        if not (in_scope and self._allows(user_id, permission, stream_id)):
            where = "" if stream_id is None else f" on stream {stream_id}"
            raise PermissionDeniedError(
                f"the permission {permission!r} is missing{where}",
                permission=permission,
                user_id=user_id,
                stream_id=stream_id,
            )

    def can(self, subject: Subject, permission: str, *, stream_id: int | None = None) -> bool:
        """Whether the subject may do this: to show or hide a button, never to guard the action."""
        try:
            self.require(subject, permission, stream_id=stream_id)
        except PermissionDeniedError:
            return False
        return True

    def forget(self, work: UnitOfWork, user_id: int) -> AccessChange:
        """Have what an account may do read anew: it was closed or opened, or is to be deleted.

        ``AccountManager`` calls it; so does whoever changes accounts without it.
        """
        return self._changes.of_account(work, user_id)

    def export_user(self, user_id: int) -> Iterator[bytes]:
        """Return a copy of everything about a person; see ``PrivacyManager.export_user``.

        Raises:
            NotFoundError: there is no such account.
        """
        return self._required_privacy().export_user(user_id)

    def erase_user(self, work: UnitOfWork, user: User | int) -> ErasedUser:
        """End everything about a person; see ``PrivacyManager.erase_user``.

        Raises:
            NotFoundError: there is no such account.
        """
        return self._required_privacy().erase_user(work, user)

    def _required_privacy(self) -> PrivacyManager:
        if self._privacy is None:
            raise ConfigurationError("this access manager was made without a privacy manager")
        return self._privacy()

    def _allows(self, user_id: int, permission: str, stream_id: int | None) -> bool:
        standing = self._reader.standing(user_id)
        if standing.permissions.on(stream_id).allows(permission):
            return True
        if stream_id is None or not standing.as_owner.allows(permission):
            return False
        return self._reader.owns(user_id, stream_id)
