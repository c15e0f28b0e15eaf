"""Everything a password opens or replaces: login, change, reset, and what ends with the old one."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from rootstream_db.errors import InvalidCredentialsError, TooManyAttemptsError, ValidationError
from rootstream_db.models import RevokeReason, TokenPurpose, User
from rootstream_db.security.passwords import PasswordHasher
from rootstream_db.services.accounts.journal import AccountJournal
from rootstream_db.services.accounts.known_devices import KnownDevices
from rootstream_db.services.accounts.lockout import LoginLockout
from rootstream_db.services.accounts.rules import check_password, normal_login
from rootstream_db.services.accounts.tokens import OneTimeTokens
from rootstream_db.services.accounts.watch import LoginAttempt, LoginWatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootstream_db.settings import AccountSettings
    from rootstream_db.unit_of_work import UnitOfWork


class AccountPasswords:
    """Verifies and replaces passwords.

    Three laws hold here. A guess is counted before it is looked at. Nothing is locked while a
    password is hashed. What was verified is compared again when the result is written, so that a
    login or change that started before another change cannot succeed after it.
    """

    def __init__(
        self,
        settings: AccountSettings,
        *,
        hasher: PasswordHasher,
        lockout: LoginLockout,
        tokens: OneTimeTokens,
        devices: KnownDevices,
        journal: AccountJournal,
        end_sessions: Callable[[UnitOfWork, User, RevokeReason], int],
        watch: LoginWatch,
    ) -> None:
        self._settings = settings
        self._hasher = hasher
        self._lockout = lockout
        self._tokens = tokens
        self._devices = devices
        self._journal = journal
        self._end_sessions = end_sessions
        self._watch = watch

    def hashed(self, password: str, *, username: str, email: str) -> str:
        """Return the hash of a password that may be set."""
        self._check(password, username=username, email=email)
        return self._hasher.hash(password)

    def authenticate(
        self,
        work: UnitOfWork,
        login: str,
        password: str,
        *,
        ip_address: str | None,
        user_agent: str | None,
        trusted_device: str | None,
    ) -> User:
        """Return the active account with that login and password, its login recorded."""
        name = normal_login(login)
        # What nobody can have registered needs no look-up; its length or form is no secret.
        if name is None or len(password) > self._settings.max_password_length:
            raise _refused()
        device = self._devices.recognise(work, trusted_device, name)
        attempt = LoginAttempt(name, ip_address, user_agent, device)
        self._watch.admit(attempt)
        lock = self._reserve(work, attempt)
        user = work.users.get_by_login(name)
        matches = self._hasher.verify(user.password_hash if user else None, password)
        admitted = None
        if user is not None and matches and user.is_active:
            admitted = self._admit(work, user, password, attempt)
        if admitted is None:
            user_id = None if user is None else user.id
            self._watch.failed(attempt, user_id=user_id, locked_for=lock)
            raise _refused()
        return admitted

    def change(self, work: UnitOfWork, user_id: int, *, current: str, new: str) -> User:
        """Replace a password its owner knows."""
        account = work.users.get_one(user_id)
        verified = account.password_hash
        if current == new:
            raise ValidationError("the new password is the old one", field="password")
        # Checked before the attempt is counted: a weak new password is no wrong guess.
        self._check(new, username=account.username, email=account.email)
        self._lockout.reserve(account.username.lower())
        if not (self._hasher.verify(verified, current) and account.is_active):
            raise InvalidCredentialsError("the current password is wrong")
        new_hash = self._hasher.hash(new)
        account = work.users.lock(user_id)
        if account.password_hash != verified:
            raise InvalidCredentialsError("the password was changed by somebody else meanwhile")
        return self._replace(work, account, new_hash, event="PasswordChanged")

    def reset(self, work: UnitOfWork, token: str, new: str) -> User:
        """Replace a password on the strength of a token."""
        found = self._tokens.find(work, token, TokenPurpose.RESET_PASSWORD)
        account = work.users.get_one(found.user_id)
        new_hash = self.hashed(new, username=account.username, email=account.email)
        account = work.users.lock(found.user_id)
        self._tokens.redeem(work, token, TokenPurpose.RESET_PASSWORD)
        return self._replace(work, account, new_hash, event="PasswordReset")

    def unlock(self, account: User) -> None:
        """Forget the failed logins of an account."""
        self._lockout.clear(*_logins(account))

    def _check(self, password: str, *, username: str, email: str) -> None:
        check_password(
            password,
            username=username,
            email=email,
            min_length=self._settings.min_password_length,
            max_length=self._settings.max_password_length,
        )

    def _reserve(self, work: UnitOfWork, attempt: LoginAttempt) -> timedelta | None:
        """Count the attempt before it is looked at; return how long a failure locks the login."""
        try:
            return self._lockout.reserve(attempt.login, device=attempt.device)
        except TooManyAttemptsError:
            user = work.users.get_by_login(attempt.login)
            user_id = None if user is None else user.id
            self._watch.failed(attempt, user_id=user_id, locked_for=None)
            raise

    def _admit(
        self, work: UnitOfWork, user: User, password: str, attempt: LoginAttempt
    ) -> User | None:
        """Record the login; None if the password was changed or the account closed meanwhile."""
        verified = user.password_hash
        rehash = self._hasher.needs_rehash(verified)
        admitted = work.users.record_login(
            user.id,
            verified_hash=verified,
            password_hash=self._hasher.hash(password) if rehash else verified,
            now=work.now,
        )
        if admitted is None:
            return None
        self._lockout.clear(*_logins(admitted), device=attempt.device)
        address = attempt.ip_address
        personal = None if address is None else {"ip_address": address}
        data = {"rehashed": rehash}
        self._journal.record(work, admitted, "UserLoggedIn", data, personal=personal)
        self._watch.succeeded(work, attempt, admitted)
        return admitted

    def _replace(self, work: UnitOfWork, account: User, new_hash: str, *, event: str) -> User:
        account.password_hash = new_hash
        account.password_changed_at = work.now
        # The account is locked: a login that came first has committed its session by now.
        revoked = self._end_sessions(work, account, RevokeReason.PASSWORD)
        work.user_tokens.void(account.id, TokenPurpose.RESET_PASSWORD)
        self._lockout.clear(*_logins(account))
        self._journal.record(work, account, event, {"sessions_revoked": revoked})
        return account


def _logins(user: User) -> tuple[str, str]:
    return user.username.lower(), user.email.lower()


def _refused() -> InvalidCredentialsError:
    return InvalidCredentialsError("the login or the password is wrong")
