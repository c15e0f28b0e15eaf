"""Lockout: how many guesses a login gets, decided before the password is looked at."""

from __future__ import annotations

import logging
import math
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from rootstream_db.errors import TooManyAttemptsError
from rootstream_db.security.lock_times import doubling_lock

if TYPE_CHECKING:
    from rootstream_db.database import Database
    from rootstream_db.security.login_digests import LoginDigests
    from rootstream_db.settings import AccountSettings

_logger: Final = logging.getLogger(__name__)


def lock_duration(failures: int, settings: AccountSettings) -> timedelta | None:
    """Return how long a login is locked after that many failures in a row, or None.

    The first lock lasts ``lockout_base``; every further failure doubles it up to ``lockout_max``.
    """
    return doubling_lock(
        failures,
        allowed=settings.lockout_failures,
        base=settings.lockout_base,
        longest=settings.lockout_max,
    )


class LoginLockout:
    """Counts attempts in transactions of its own, so that no caller's rollback refunds a guess.

    An attempt is reserved before its password is checked and forgotten when it was right. Counting
    afterwards would let any number of parallel guesses through before the first one is counted.
    """

    def __init__(
        self, database: Database, digests: LoginDigests, settings: AccountSettings
    ) -> None:
        self._database = database
        self._digests = digests
        self._settings = settings

    def reserve(self, login: str, *, device: bytes | None = None) -> timedelta | None:
        """Count one attempt on a login; those from a trusted device of its owner by themselves.

        Returns:
            How long the login is locked if this attempt fails too; None if it stays open.

        Raises:
            TooManyAttemptsError: the login is locked; the attempt must not be made.
        """
        digests = self._digests
        key = digests.of_login(login) if device is None else digests.of_device(device)
        with self._database.independent() as work:
            window = self._settings.lockout_window
            failures = work.login_throttle.reserve(key, now=work.now, window=window)
            if failures is None:
                # A refused upsert locks the row it met, so it is still there to be read.
                raise _locked(work.login_throttle.get_one(key).wait(work.now))
            lock = lock_duration(failures, self._settings)
            if lock is not None:
                work.login_throttle.lock(key, work.now + lock)
                _logger.warning("login %s locked for %s", key.hex()[:8], lock)
            return lock

    def clear(self, *logins: str, device: bytes | None = None) -> None:
        """Forget the failures of these logins: somebody proved to be their owner."""
        keys = [self._digests.of_login(login) for login in logins]
        if device is not None:
            keys.append(self._digests.of_device(device))
        with self._database.independent() as work:
            work.login_throttle.clear(keys)


def _locked(wait: timedelta) -> TooManyAttemptsError:
    seconds = wait.total_seconds()
    return TooManyAttemptsError(
        f"too many failed logins: try again in {math.ceil(seconds)} s", retry_after=seconds
    )
