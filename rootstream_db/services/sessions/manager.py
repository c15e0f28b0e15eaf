"""Login sessions: opened, validated at every request, ended everywhere at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from rootstream_db.clock import Clock, utc_now
from rootstream_db.errors import ValidationError
from rootstream_db.models import RevokeReason, User, UserSession
from rootstream_db.security.assurance import MfaProof
from rootstream_db.security.tokens import TokenKind
from rootstream_db.services.sessions.checker import SessionChecker
from rootstream_db.services.sessions.devices import DevicePolicy
from rootstream_db.services.sessions.endings import Endings
from rootstream_db.services.sessions.info import IssuedSession, RevocationResult, SessionInfo
from rootstream_db.services.sessions.journal import SessionJournal
from rootstream_db.services.sessions.memory import SessionMemory
from rootstream_db.services.sessions.opener import Client, SessionOpener
from rootstream_db.services.sessions.rules import (
    MAX_REASON,
    check_line,
    check_reason,
    user_id_of,
)
from rootstream_db.services.sessions.store import SessionStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootstream_db.cache import EventBus
    from rootstream_db.database import Database
    from rootstream_db.repositories.session_rows import EndedSession
    from rootstream_db.security.token_mint import TokenMint
    from rootstream_db.services.event_store import EventStore
    from rootstream_db.settings import CacheSettings, RedisSettings, SessionSettings
    from rootstream_db.unit_of_work import UnitOfWork

DELETED_AT_ONCE = 1000
"""Expired sessions deleted in one transaction: each takes a few milliseconds."""


class SessionManager:
    """Login sessions.

    ``create``, ``step_up``, ``reauthenticate`` and ``revoke_all_for_user`` happen in the caller's
    unit of work; the others are transactions of their own, and reads that the cache answers.

    **What holds.** A session that was ended is refused by every process from the commit on. When
    Redis is lost, restarted or emptied, that takes ``max_stale`` at the most, because no process
    trusts a cached session for longer without asking PostgreSQL. When PostgreSQL is lost, sessions
    checked within ``max_stale`` hold and all others are refused. **Time** is the injected clock's;
    clocks that differ add their difference to ``max_stale``.

    Args:
        database: where sessions are stored.
        events: the log that openings and endings are appended to.
        mint: makes and recognises tokens.
        bus: carries the word of endings.
        redis: where the cache is; sessions have connections of their own, with little patience.
        ttls: how long entries live.
        settings: life times, limits, policies.
        clock: the source of time.
    """

    def __init__(
        self,
        database: Database,
        events: EventStore,
        mint: TokenMint,
        *,
        bus: EventBus,
        redis: RedisSettings,
        ttls: CacheSettings,
        settings: SessionSettings,
        clock: Clock = utc_now,
    ) -> None:
        self._database = database
        self._mint = mint
        self._store = SessionStore(redis, settings, ttls=ttls, clock=clock)
        self._endings = Endings(
            database, self._store, SessionJournal(events), bus=bus, settings=settings, clock=clock
        )
        self._memory = SessionMemory(bus, ttl=settings.memory_ttl) if settings.memory_ttl else None
        devices = DevicePolicy(
            database, self._store, mint, endings=self._endings, settings=settings
        )
        self._checker = SessionChecker(
            database,
            self._store,
            mint,
            endings=self._endings,
            devices=devices,
            memory=self._memory,
            settings=settings,
            clock=clock,
        )
        self._opener = SessionOpener(
            mint, self._checker, devices=devices, endings=self._endings, settings=settings
        )

    # Opening

    def create(
        self,
        work: UnitOfWork,
        user: User,
        *,
        proof: MfaProof | None = None,
        **client: Unpack[Client],
    ) -> IssuedSession:
        """Open a session for somebody who has just logged in.

        The account may not have changed since ``user`` was loaded: a login that raced with a
        change of its password opens nothing. When the account has too many sessions, the ones not
        seen for longest end; of any number of logins at once exactly the allowed number lives.

        Args:
            work: the unit of the login.
            user: the account, as ``accounts.authenticate`` returned it.
            proof: the second factor, as ``rs.mfa`` returned it.
            client: what is known of the client: ``device_fingerprint`` (whatever the application
                tells devices apart by; a digest of it is kept), ``device_label``, ``ip_address``,
                ``user_agent``, ``location``.

        Raises:
            InvalidCredentialsError: the account was closed or its password changed meanwhile.
            PermissionDeniedError: the proof is another account's.
            MfaRequiredError: the proof is too old.
            ValidationError: something known of the client cannot be stored.
        """
        return self._opener.create(work, user, proof=proof, client=client)

    def rotate(self, token: str) -> IssuedSession:
        """Give the session another token; the old one is dead from then on.

        Of several callers at once one gets the new token. The old one may still come back from
        requests under way; after ``rotation_grace`` it means that two parties have it, and the
        session that took its place ends as well.

        Raises:
            AuthenticationError: as ``validate``; ``SessionRevokedError`` also for who came second.
        """
        held = self._checker.check(
            token, device_fingerprint=None, ip_address=None, ask_postgres=True
        )
        return self._database.run(lambda work: self._opener.rotate(work, held.session_id))

    def step_up(self, work: UnitOfWork, token: str, proof: MfaProof) -> IssuedSession:
        """Let the session be worth what a second factor proves now; it gets another token.

        That may be less than before: what a passkey proved is not prolonged by a code.

        Raises:
            AuthenticationError: as ``validate``; ``MfaRequiredError`` when the proof is too old.
            PermissionDeniedError: the proof is another account's.
        """
        return self._opener.step_up(work, token, proof)

    def reauthenticate(
        self, work: UnitOfWork, token: str, user: User, *, device_fingerprint: str | None = None
    ) -> IssuedSession:
        """Go on with a session after its user logged in again; it gets another token.

        This is also the way back for a session that another device used; a second factor then has
        to be proved again. With ``device_fingerprint`` it belongs to that device from now on.

        Raises:
            AuthenticationError: as ``validate``; ``InvalidCredentialsError`` when the password
                changed after that login.
            PermissionDeniedError: the session is another account's.
        """
        return self._opener.reauthenticate(work, token, user, device_fingerprint=device_fingerprint)

    # Using

    def validate(
        self,
        token: str,
        *,
        device_fingerprint: str | None = None,
        ip_address: str | None = None,
    ) -> SessionInfo:
        """Return the session that the token opens; every error means that it opens nothing.

        Using a session keeps it from running idle; that is written down at most once in
        ``touch_interval``.

        Args:
            token: what the client sent.
            device_fingerprint: what the device is told by, if the session is to be held to it.
            ip_address: where the request came from; kept as the session's last address.

        Raises:
            InvalidTokenError: it is no token, or no session has it.
            SessionExpiredError: the session ran out.
            SessionRevokedError: the session was ended or got another token.
            DeviceMismatchError: another device uses it, and the policy is not to let it.
            ReauthenticationRequiredError: another device used it: its user has to log in again.
            AuthBackendUnavailableError: nobody who knows can be asked now.
        """
        return self._checker.check(
            token, device_fingerprint=device_fingerprint, ip_address=ip_address
        )

    def refresh(self, token: str, *, ip_address: str | None = None) -> SessionInfo:
        """Return the session as PostgreSQL has it now, and keep it from running idle.

        Raises:
            AuthenticationError: as ``validate``.
        """
        return self._checker.check(
            token,
            device_fingerprint=None,
            ip_address=ip_address,
            ask_postgres=True,
        )

    def list_for_user(self, work: UnitOfWork, user: User | int) -> Sequence[UserSession]:
        """Return the account's sessions that hold, the one seen last first."""
        return work.sessions.list_open(user_id_of(user), now=work.now)

    # Ending

    def revoke(
        self,
        session: str | int,
        *,
        user: User | int | None = None,
        reason: RevokeReason | str = RevokeReason.LOGOUT,
    ) -> RevocationResult:
        """End a session, by its token or its id, and whatever took its place meanwhile.

        Args:
            session: the token, to log out; the id, to end one of a list.
            user: whose session it has to be: ids come from outside, and are easily guessed.
            reason: why, for the record.

        Raises:
            InvalidTokenError: it is no token.
            ValidationError: there is no such reason.
        """
        why, owner = check_reason(reason), None if user is None else user_id_of(user)
        digest = None if isinstance(session, int) else self._mint.digest(session, TokenKind.SESSION)

        def choose(work: UnitOfWork) -> Sequence[EndedSession]:
            row = (
                work.sessions.get(session) if digest is None else work.sessions.get_by_token(digest)
            )
            if row is None or owner not in (None, row.user_id):
                return ()
            # First the account: a rotation under way comes before or after, not in between.
            work.users.lock(row.user_id)
            return work.sessions.revoke_family(row.user_id, row.family, now=work.now, reason=why)

        return self._endings.end_now(choose, reason=why)

    def revoke_all_for_user(
        self,
        work: UnitOfWork,
        user: User | int,
        *,
        reason: RevokeReason | str = RevokeReason.USER,
        except_session: int | None = None,
    ) -> RevocationResult:
        """End the account's sessions, and logins under way, when the unit commits.

        Args:
            work: the unit that gives the reason, such as a change of the password.
            user: the account or its id.
            reason: why, for the record.
            except_session: the id of a session that goes on.

        Raises:
            NotFoundError: there is no such account.
            ValidationError: there is no such reason.
        """
        why, user_id = check_reason(reason), user_id_of(user)
        epoch = work.users.bump_auth_epoch(user_id)
        ended = work.sessions.revoke_all(
            user_id, now=work.now, reason=why, except_session=except_session
        )
        if except_session is not None:
            work.sessions.carry_over(except_session, user_id=user_id, auth_epoch=epoch)
        return self._endings.end(work, ended, reason=why)

    def invalidate_all(self, reason: str) -> RevocationResult:
        """End all sessions of all accounts, those included that nobody knows of any more.

        For after a restore: an older database brings sessions back that were ended since, and
        Redis knows sessions that the database never heard of. Also for a leaked key.

        PostgreSQL and an emptied Redis refuse them at once. A look-up that was under way may put
        one back, which a process that has not asked PostgreSQL since believes for ``max_stale``.

        Args:
            reason: why, for the record: one line.

        Raises:
            ValidationError: there is no reason, or it is no line.
        """
        why = check_line(reason, "reason", most=MAX_REASON)
        if why is None:
            raise ValidationError("ending all sessions needs a reason", field="reason")

        def begin(work: UnitOfWork) -> tuple[int, int]:
            ended = work.sessions.count_open(now=work.now)
            generation = work.auth_state.next_generation(now=work.now, reason=why)
            self._endings.journal.everybody(work, generation, why)
            return ended, generation

        ended, generation = self._database.run(begin, idempotent=True)
        self._checker.learn_generation(generation)
        return self._endings.forget_everybody(ended)

    # What cron calls

    def delete_expired(self, *, batch: int = DELETED_AT_ONCE) -> int:
        """Delete the rows of sessions that ran out, in short transactions; return how many.

        Any number of cleaners may run at once. What Redis could not be told is told first.
        """
        self._endings.make_up_for_losses(anyway=True)
        deleted = 0
        while found := self._database.run(
            lambda work: work.sessions.delete_expired(work.now, limit=batch), idempotent=True
        ):
            deleted += found
        return deleted

    @property
    def forged_entries(self) -> int:
        """How many cached entries so far none of us can have written: should be 0."""
        return self._checker.forged

    def close(self) -> None:
        """Close the connections to Redis."""
        if self._memory is not None:
            self._memory.close()
        self._store.close()
