"""Opening sessions, and putting one in the place of another."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypedDict

from rootstream_db.errors import (
    InvalidCredentialsError,
    MfaRequiredError,
    PermissionDeniedError,
    ReauthenticationRequiredError,
    SessionExpiredError,
    SessionRevokedError,
)
from rootstream_db.models import User, UserSession
from rootstream_db.repositories.session_rows import NewSession
from rootstream_db.security.assurance import AssuranceLevel, MfaProof
from rootstream_db.security.token_mint import IssuedToken, TokenMint
from rootstream_db.security.tokens import TokenKind
from rootstream_db.services.accounts.rules import check_ip_address
from rootstream_db.services.sessions.entry import entry_of, microseconds
from rootstream_db.services.sessions.info import IssuedSession
from rootstream_db.services.sessions.rules import (
    MAX_DEVICE_LABEL,
    MAX_LOCATION,
    check_line,
    shown_user_agent,
)
from rootstream_db.services.sessions.verdict import Verdict, verdict_on

if TYPE_CHECKING:
    from collections.abc import Container

    from rootstream_db.services.sessions.checker import SessionChecker
    from rootstream_db.services.sessions.devices import DevicePolicy
    from rootstream_db.services.sessions.endings import Endings
    from rootstream_db.settings import SessionSettings
    from rootstream_db.unit_of_work import UnitOfWork

PROOF_TTL: Final = timedelta(minutes=10)
"""How old a proof of a second factor may be when a session is made of it."""

_HOLDS: Final = frozenset({Verdict.HOLDS})
_HOLDS_OR_SUSPENDED: Final = frozenset({Verdict.HOLDS, Verdict.SUSPENDED})


class Client(TypedDict, total=False):
    """What is known of the program that logs in; all of it personal, none of it proved."""

    device_fingerprint: str | None
    device_label: str | None
    ip_address: str | None
    user_agent: str | None
    location: str | None


class SessionOpener:
    """Opens sessions in the caller's unit of work."""

    def __init__(
        self,
        mint: TokenMint,
        checker: SessionChecker,
        *,
        devices: DevicePolicy,
        endings: Endings,
        settings: SessionSettings,
    ) -> None:
        self._mint = mint
        self._checker = checker
        self._devices = devices
        self._endings = endings
        self._settings = settings

    def create(
        self, work: UnitOfWork, user: User, *, proof: MfaProof | None, client: Client
    ) -> IssuedSession:
        """Open a session for somebody who has just logged in."""
        settings, token = self._settings, self._mint.issue(TokenKind.SESSION)
        expires_at = work.now + settings.absolute_ttl
        new = NewSession(
            user_id=user.id,
            auth_epoch=user.auth_epoch,
            token_hash=token.digest,
            token_version=token.version,
            now=work.now,
            idle_expires_at=min(work.now + settings.idle_ttl, expires_at),
            expires_at=expires_at,
            level=AssuranceLevel.PASSWORD,
            mfa_method=None,
            authenticated_at=work.now,
            mfa_at=None,
            device_fingerprint=self._fingerprint(token, client.get("device_fingerprint")),
            device_label=check_line(
                client.get("device_label"), "device_label", most=MAX_DEVICE_LABEL
            ),
            ip_address=check_ip_address(client.get("ip_address")),
            user_agent=shown_user_agent(client.get("user_agent")),
            location=check_line(client.get("location"), "location", most=MAX_LOCATION),
            limit=settings.max_per_user,
        )
        if proof is not None:
            new = replace(new, **_proved(proof, user.id, work))
        return self._open(work, new, token, "SessionCreated", subject_id=user.public_id)

    def rotate(self, work: UnitOfWork, session_id: int) -> IssuedSession:
        """Give a session that holds another token."""
        return self._replace(work, work.sessions.get_one(session_id), "SessionRotated")

    def step_up(self, work: UnitOfWork, token: str, proof: MfaProof) -> IssuedSession:
        """Give a session another token and the assurance of a second factor."""
        row, _ = self._standing(work, token, _HOLDS)
        changes = _proved(proof, row.user_id, work)
        return self._replace(work, row, "SessionSteppedUp", **changes)

    def reauthenticate(
        self, work: UnitOfWork, token: str, user: User, *, device_fingerprint: str | None
    ) -> IssuedSession:
        """Give a session another token and a new life, after its user logged in once more."""
        row, verdict = self._standing(work, token, _HOLDS_OR_SUSPENDED)
        if row.user_id != user.id:
            raise PermissionDeniedError("the session is another account's")
        if row.auth_epoch != user.auth_epoch:
            raise _account_changed()
        expires_at = work.now + self._settings.absolute_ttl
        changes: dict[str, Any] = {
            "authenticated_at": work.now,
            "expires_at": expires_at,
            "idle_expires_at": min(work.now + self._settings.idle_ttl, expires_at),
        }
        if verdict is Verdict.SUSPENDED:
            changes |= {"level": AssuranceLevel.PASSWORD, "mfa_at": None, "mfa_method": None}
        return self._replace(
            work,
            row,
            "SessionReauthenticated",
            device_fingerprint=device_fingerprint,
            **changes,
        )

    def _standing(
        self, work: UnitOfWork, token: str, allowed: Container[Verdict]
    ) -> tuple[UserSession, Verdict]:
        """Return the session of a token as this unit sees it."""
        found = work.sessions.find(self._mint.digest(token, TokenKind.SESSION))
        verdict = verdict_on(found, now=work.now, grace=self._settings.rotation_grace)
        if found is not None and verdict in allowed:
            return work.sessions.get_one(found.id), verdict
        if verdict is Verdict.EXPIRED:
            raise SessionExpiredError("the session has expired: log in again")
        if verdict is Verdict.SUSPENDED:
            raise ReauthenticationRequiredError("the session is suspended: log in again first")
        raise SessionRevokedError("the session is over: log in again")

    def _replace(
        self,
        work: UnitOfWork,
        row: UserSession,
        event: str,
        *,
        device_fingerprint: str | None = None,
        **changes: Any,
    ) -> IssuedSession:
        token = self._mint.issue(TokenKind.SESSION)
        fingerprint = self._fingerprint(token, device_fingerprint) or row.device_fingerprint
        new = NewSession(
            user_id=row.user_id,
            auth_epoch=row.auth_epoch,
            token_hash=token.digest,
            token_version=token.version,
            now=work.now,
            idle_expires_at=min(work.now + self._settings.idle_ttl, row.expires_at),
            expires_at=row.expires_at,
            level=row.level,
            mfa_method=row.mfa_method,
            authenticated_at=row.authenticated_at,
            mfa_at=row.mfa_at,
            device_fingerprint=fingerprint,
            device_label=row.device_label,
            ip_address=row.last_ip_address,
            user_agent=row.user_agent,
            location=row.location,
            limit=self._settings.max_per_user,
            replaces=row.id,
            family=row.family,
        )
        return self._open(work, replace(new, **changes), token, event)

    def _open(
        self,
        work: UnitOfWork,
        new: NewSession,
        token: IssuedToken,
        event: str,
        *,
        subject_id: uuid.UUID | None = None,
    ) -> IssuedSession:
        opened = work.sessions.open(new)
        if opened.outcome == "account":
            raise _account_changed()
        if opened.outcome == "replaced":
            raise SessionRevokedError("the session ended or got another token meanwhile")
        session = work.sessions.adopt(new, opened)
        replaced = new.replaces is not None
        self._endings.tell(work, opened.ended_ids, opened.ended, replaced=replaced)
        self._endings.journal.opened(
            work, session, event, ended=opened.ended_ids, subject_id=subject_id
        )
        entry = entry_of(session, checked_at=microseconds(work.now))
        pepper = f"{TokenKind.SESSION}{token.version}"
        work.after_commit(
            lambda: self._checker.fill(token.digest, pepper, entry), name="cache new session"
        )
        return IssuedSession(session, token.text)

    def _fingerprint(self, token: IssuedToken, said: str | None) -> bytes | None:
        return self._devices.digest(said, f"{TokenKind.SESSION}{token.version}")


def _account_changed() -> InvalidCredentialsError:
    return InvalidCredentialsError(
        "the account was closed or its password changed meanwhile: log in again"
    )


def _proved(proof: MfaProof, user_id: int, work: UnitOfWork) -> dict[str, Any]:
    """Return what a second factor changes about a session."""
    if proof.user_id != user_id:
        raise PermissionDeniedError("the second factor is another account's")
    if not timedelta(0) <= work.now - proof.verified_at <= PROOF_TTL:
        raise MfaRequiredError("the second factor was proved too long ago: prove it again")
    return {
        # No more than was proved now: a code must not prolong what a passkey proved before.
        "level": max(AssuranceLevel.PASSWORD, proof.level),
        "mfa_method": proof.method,
        "mfa_at": proof.verified_at,
    }
