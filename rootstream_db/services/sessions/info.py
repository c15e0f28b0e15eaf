"""What callers learn about sessions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from rootstream_db.errors import MfaRequiredError, ReauthenticationRequiredError
from rootstream_db.models.sessions import UserSession
from rootstream_db.security.assurance import AssuranceLevel, MfaMethod
from rootstream_db.security.tokens import SecretText
from rootstream_db.services.sessions.entry import METHODS, Entry, moment

_MINUTE: Final = 60_000_000


class SessionInfo:
    """A session that holds, as it was when it was validated.

    Made for every request, so times become ``datetime`` only when they are asked for.
    """

    __slots__ = ("_entry", "_now", "level", "session_id", "user_id")

    def __init__(self, entry: Entry, level: AssuranceLevel, now: int) -> None:
        self.session_id = entry.session_id
        self.user_id = entry.user_id
        self.level = level
        self._entry = entry
        self._now = now

    def __repr__(self) -> str:
        return (
            f"SessionInfo(session_id={self.session_id}, user_id={self.user_id}, "
            f"level={self.level.name})"
        )

    @property
    def authenticated_at(self) -> datetime:
        """When the user last logged in."""
        return moment(self._entry.authenticated_at)

    @property
    def mfa_at(self) -> datetime | None:
        """When a second factor was last proved, if one was."""
        return moment(self._entry.mfa_at) if self._entry.mfa_at else None

    @property
    def mfa_method(self) -> MfaMethod | None:
        """What that second factor was."""
        return METHODS[self._entry.method]

    @property
    def last_seen_at(self) -> datetime:
        """When a use of the session was last written down."""
        return moment(self._entry.last_seen_at)

    @property
    def idle_expires_at(self) -> datetime:
        """When the session ends unless it is used before."""
        return moment(self._entry.idle_expires_at)

    @property
    def expires_at(self) -> datetime:
        """When the session ends, used or not."""
        return moment(self._entry.expires_at)

    def require(self, level: AssuranceLevel) -> Self:
        """Return the session if it proves that much of its user.

        Raises:
            MfaRequiredError: a second factor, or a stronger one, is owed.
        """
        if self.level < level:
            raise MfaRequiredError(
                f"this needs the assurance level {level.name}; the session has {self.level.name}",
                required=level.name,
                level=self.level.name,
            )
        return self

    def require_recent(self, minutes: float) -> Self:
        """Return the session if its user proved who they are that recently.

        What counts is the second factor if the session has one, else the login: somebody who found
        an open session and a password must not get past an account that has two factors. A trusted
        device says nothing of who sits before it, so what counts then is the login as well.

        Raises:
            MfaRequiredError: the second factor has to be proved again.
            ReauthenticationRequiredError: the password has to be given again.
        """
        entry = self._entry
        is_by_factor = entry.mfa_at and self.mfa_method is not MfaMethod.TRUSTED_DEVICE
        proved_at = entry.mfa_at if is_by_factor else entry.authenticated_at
        if self._now - proved_at <= minutes * _MINUTE:
            return self
        message = f"this needs a proof that is at most {minutes:g} minutes old"
        if is_by_factor:
            raise MfaRequiredError(message, minutes=minutes)
        raise ReauthenticationRequiredError(message, minutes=minutes)


@dataclass(frozen=True, slots=True)
class IssuedSession:
    """A session that was just opened.

    Attributes:
        session: the session as it is stored.
        token: what its client sends from now on; shown this once.
    """

    session: UserSession
    token: SecretText


@dataclass(frozen=True, slots=True)
class RevocationResult:
    """What a revocation did, and when it holds everywhere.

    Attributes:
        revoked: how many sessions were open and are not any more.
        immediate: whether no process accepts them from the commit on; false when Redis could not
            be told, and others may go on trusting what they have. Of everybody's sessions: whether
            Redis was emptied; there ``effective_by`` counts.
        effective_by: when the last process at the latest refuses them, if the unit commits at
            once; a unit that goes on adds what it takes.
    """

    revoked: int
    immediate: bool
    effective_by: datetime
