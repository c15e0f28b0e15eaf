"""Accounts: registration, login, passwords, e-mail verification, profile, end."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Final

from rootstream_db.errors import ConflictError, PermissionDeniedError
from rootstream_db.models import RevokeReason, TokenPurpose, User
from rootstream_db.models.users import NO_PASSWORD
from rootstream_db.security.login_digests import LoginDigests
from rootstream_db.security.passwords import PasswordHasher
from rootstream_db.security.tokens import SecretText
from rootstream_db.services.accounts.journal import AccountJournal
from rootstream_db.services.accounts.known_devices import KnownDevices
from rootstream_db.services.accounts.lockout import LoginLockout
from rootstream_db.services.accounts.passwords import AccountPasswords
from rootstream_db.services.accounts.rules import (
    check_avatar_url,
    check_display_name,
    check_email,
    check_ip_address,
    check_username,
)
from rootstream_db.services.accounts.tokens import OneTimeTokens
from rootstream_db.services.accounts.watch import Unwatched

if TYPE_CHECKING:
    from rootstream_db.cache import RedisCache
    from rootstream_db.database import Database
    from rootstream_db.security.token_mint import TokenMint
    from rootstream_db.services.accounts.watch import LoginWatch
    from rootstream_db.services.event_store import EventStore
    from rootstream_db.services.sessions import SessionManager
    from rootstream_db.settings import AccountSettings
    from rootstream_db.unit_of_work import UnitOfWork


class Unchanged(Enum):
    """What ``update_profile`` is given for a field it leaves alone; None empties the field."""

    UNCHANGED = "unchanged"


UNCHANGED: Final = Unchanged.UNCHANGED


class AccountManager:
    """Everything that happens to an account; each change is an event in the same transaction.

    Methods take the caller's unit of work and return the account as that unit sees it: an object
    loaded in an earlier unit is only asked for its id.

    Args:
        database: where failed logins are counted, in transactions beside the caller's.
        events: the log that changes are appended to.
        settings: cost of passwords, lockout, lifetimes of tokens.
        tokens: the mint of verification and reset tokens, and of those of trusted devices.
        cache: where profiles are cached, if they are; changed ones are dropped from it.
        hasher: the password hasher; one of the settings' profile unless given.
        sessions: ends sessions in the cache as well; without it a cached one lives on for up to
            ``sessions.max_stale``.
        on_standing: told in the same unit of the id of an account that was closed or opened, or is
            about to be deleted.
        watch: who is told of logins, and may slow attackers down.
    """

    def __init__(
        self,
        database: Database,
        events: EventStore,
        settings: AccountSettings,
        *,
        tokens: TokenMint,
        cache: RedisCache | None = None,
        hasher: PasswordHasher | None = None,
        sessions: SessionManager | None = None,
        on_standing: Callable[[UnitOfWork, int], object] | None = None,
        watch: LoginWatch | None = None,
    ) -> None:
        self._settings = settings
        self._sessions = sessions
        self._on_standing = on_standing
        self._journal = AccountJournal(events, cache)
        self._tokens = OneTimeTokens(tokens, settings)
        self._passwords = AccountPasswords(
            settings,
            hasher=hasher or PasswordHasher(settings.argon2_profile),
            lockout=LoginLockout(database, LoginDigests(tokens), settings),
            tokens=self._tokens,
            devices=KnownDevices(tokens),
            journal=self._journal,
            end_sessions=self._end_sessions,
            watch=watch or Unwatched(),
        )

    def register(
        self,
        work: UnitOfWork,
        *,
        username: str,
        email: str,
        password: str | None,
        display_name: str | None = None,
    ) -> User:
        """Create an account; without a password it needs an identity at another site to log in.

        Raises:
            ValidationError: a value breaks a rule; its ``field`` says which.
            ConflictError: the username or the e-mail address is taken, in whatever case.
        """
        name, address = check_username(username), check_email(email)
        user = User(
            username=name,
            email=address,
            display_name=check_display_name(display_name),
            password_hash=NO_PASSWORD,
        )
        if password is not None:
            user.password_hash = self._passwords.hashed(password, username=name, email=address)
            user.password_changed_at = work.now
        try:
            with work.savepoint():
                work.users.add(user)
        except ConflictError as error:
            raise _taken(error, name) from error
        personal = {"username": name, "email": address, "display_name": user.display_name}
        data = {"public_id": str(user.public_id)}
        self._journal.record(work, user, "UserRegistered", data, personal=personal)
        return user

    def authenticate(
        self,
        work: UnitOfWork,
        login: str,
        password: str,
        *,
        ip_address: str | None = None,
        user_agent: str | None = None,
        trusted_device: str | None = None,
    ) -> User:
        """Return the account with that username or e-mail address, in any case, and password.

        An unknown login, a wrong password and a deactivated account are told apart neither by the
        error nor by the time it takes, and are locked alike.

        Args:
            work: the unit of work.
            login: username or e-mail address.
            password: the password.
            ip_address: where the login comes from.
            user_agent: what the client calls itself, by which devices are recognised.
            trusted_device: the token of a device that ``rs.mfa`` trusts, if it sent one. Its wrong
                passwords are counted by themselves, so that strangers who guess at the account
                cannot lock its owner out.

        Raises:
            InvalidCredentialsError: the login or the password is wrong.
            TooManyAttemptsError: too many attempts on this login; ``retry_after`` says how long.
            RateLimitedError: too many failed logins from the address's network, or the process is
                checking too many passwords at once.
        """
        address = check_ip_address(ip_address)
        return self._passwords.authenticate(
            work,
            login,
            password,
            ip_address=address,
            user_agent=user_agent,
            trusted_device=trusted_device,
        )

    def change_password(self, work: UnitOfWork, user: User, *, current: str, new: str) -> User:
        """Replace a password its owner knows; all sessions end and reset tokens die.

        Raises:
            InvalidCredentialsError: ``current`` is wrong, or no longer the password.
            TooManyAttemptsError: too many attempts, logins included.
            ValidationError: ``new`` breaks a rule.
        """
        return self._passwords.change(work, user.id, current=current, new=new)

    def issue_token(self, work: UnitOfWork, user: User, purpose: TokenPurpose) -> SecretText:
        """Return a single-use token to be sent to the account's address; earlier ones die.

        Raises:
            PermissionDeniedError: the account is deactivated.
        """
        account = work.users.lock(user.id)
        if not account.is_active:
            raise PermissionDeniedError("the account is deactivated: reactivate it first")
        token = self._tokens.issue(work, account, purpose)
        self._journal.record(work, account, "TokenIssued", {"purpose": purpose.value})
        return token

    def verify_email(self, work: UnitOfWork, token: str) -> User:
        """Redeem a token that proves the e-mail address; a second proof changes nothing.

        Raises:
            CodeReusedError: the token was used before.
            InvalidCodeError: the token is wrong or has expired.
        """
        found = self._tokens.find(work, token, TokenPurpose.VERIFY_EMAIL)
        account = work.users.lock(found.user_id)
        self._tokens.redeem(work, token, TokenPurpose.VERIFY_EMAIL)
        if not account.is_verified:
            account.verify(work.now)
            self._journal.record_profile(work, account, "EmailVerified")
        return account

    def reset_password(self, work: UnitOfWork, token: str, new_password: str) -> User:
        """Redeem a token for a new password; lockouts end, all sessions and reset tokens with it.

        Raises:
            CodeReusedError: the token was used before.
            InvalidCodeError: the token is wrong or has expired.
            ValidationError: the password breaks a rule; the token stays good.
        """
        return self._passwords.reset(work, token, new_password)

    def update_profile(
        self,
        work: UnitOfWork,
        user: User,
        *,
        display_name: str | Unchanged | None = UNCHANGED,
        avatar_url: str | Unchanged | None = UNCHANGED,
    ) -> User:
        """Change what others see of the account; None empties a field.

        Raises:
            ValidationError: a value breaks a rule; its ``field`` says which.
        """
        wanted: dict[str, str | None] = {}
        if not isinstance(display_name, Unchanged):
            wanted["display_name"] = check_display_name(display_name)
        if not isinstance(avatar_url, Unchanged):
            wanted["avatar_url"] = check_avatar_url(avatar_url)
        account = work.users.lock(user.id)
        changed = sorted(field for field in wanted if getattr(account, field) != wanted[field])
        for field in changed:
            setattr(account, field, wanted[field])
        if changed:
            self._journal.record_profile(
                work,
                account,
                "ProfileUpdated",
                {"changed": changed},
                personal={field: wanted[field] for field in changed},
            )
        return account

    def unlock(self, work: UnitOfWork, user: User) -> User:
        """Open the account's login after too many failures, before its time."""
        account = work.users.lock(user.id)
        self._passwords.unlock(account)
        self._journal.record(work, account, "LoginUnlocked")
        return account

    def deactivate(self, work: UnitOfWork, user: User) -> User:
        """Close the account without deleting it: no login, session, token or stream key works."""
        account = work.users.lock(user.id)
        if account.is_active:
            account.deactivate(work.now)
            self._end_sessions(work, account, RevokeReason.ACCOUNT)
            work.user_tokens.void(account.id)
            self._tell_standing(work, account)
            self._journal.record_profile(work, account, "UserDeactivated")
        return account

    def reactivate(self, work: UnitOfWork, user: User) -> User:
        """Open a deactivated account again; its owner logs in anew."""
        account = work.users.lock(user.id)
        if not account.is_active:
            account.reactivate()
            self._tell_standing(work, account)
            self._journal.record_profile(work, account, "UserReactivated")
        return account

    def delete(self, work: UnitOfWork, user: User) -> None:
        """Delete the account with its sessions, tokens, streams and what hangs on those.

        Billing accounts stay, without their user; so do events.
        """
        account = work.users.lock(user.id)
        # Before the rows are gone, and with them what the cache would have to be told.
        self._end_sessions(work, account, RevokeReason.ACCOUNT)
        self._tell_standing(work, account)
        self._journal.record_profile(
            work, account, "UserDeleted", personal={"username": account.username}
        )
        work.users.delete(account)

    def delete_expired(self, work: UnitOfWork, *, limit: int = 1000) -> int:
        """Delete one batch of expired tokens and forgotten lockouts; return how many rows.

        Call it again, in a transaction of its own each time, until it returns 0.
        """
        tokens = work.user_tokens.delete_expired(work.now, limit=limit)
        quiet_since = work.now - self._settings.lockout_window
        return tokens + work.login_throttle.delete_idle(quiet_since, limit=limit)

    def _tell_standing(self, work: UnitOfWork, account: User) -> None:
        if self._on_standing is not None:
            self._on_standing(work, account.id)

    def _end_sessions(self, work: UnitOfWork, account: User, reason: RevokeReason) -> int:
        """End the account's sessions and logins under way; return how many there were."""
        if self._sessions is not None:
            return self._sessions.revoke_all_for_user(work, account, reason=reason).revoked
        account.auth_epoch += 1
        return len(work.sessions.revoke_all(account.id, now=work.now, reason=reason))


def _taken(error: ConflictError, username: str) -> ConflictError:
    field, message = {
        "uq_users_username_lower": (
            "username",
            f"the username {username!r} is taken: choose another one",
        ),
        "uq_users_email_lower": (
            "email",
            "an account with this e-mail address exists: log in, or reset its password",
        ),
    }.get(error.constraint or "", (None, str(error)))
    return ConflictError(message, constraint=error.constraint, field=field)
