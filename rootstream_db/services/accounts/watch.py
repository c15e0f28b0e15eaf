"""Who watches logins: an interface, so that logins know nothing of its keeper."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rootstream_db.models import User
    from rootstream_db.unit_of_work import UnitOfWork


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """Somebody tries to log in.

    Attributes:
        login: the normal form of what was typed.
        ip_address: from where.
        user_agent: what the client calls itself.
        device: the digest of a trusted device of the account, if it comes from one.
    """

    login: str
    ip_address: str | None = None
    user_agent: str | None = None
    device: bytes | None = None


class LoginWatch(Protocol):
    """Is told of logins; only ``admit`` may refuse, the rest never raises."""

    def admit(self, attempt: LoginAttempt) -> None:
        """Let an attempt go on.

        Raises:
            RateLimitedError: too many came from where it comes.
        """

    def failed(
        self, attempt: LoginAttempt, *, user_id: int | None, locked_for: timedelta | None
    ) -> None:
        """Hear of a refused attempt; ``user_id`` is None where there is no such account."""

    def succeeded(self, work: UnitOfWork, attempt: LoginAttempt, user: User) -> None:
        """Hear of a good login that is about to be committed."""


class Unwatched:
    """Nobody watches."""

    def admit(self, attempt: LoginAttempt) -> None:
        """Let it go on."""

    def failed(
        self, attempt: LoginAttempt, *, user_id: int | None, locked_for: timedelta | None
    ) -> None:
        """Hear nothing."""

    def succeeded(self, work: UnitOfWork, attempt: LoginAttempt, user: User) -> None:
        """Hear nothing."""
