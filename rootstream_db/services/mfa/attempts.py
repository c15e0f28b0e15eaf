"""What guessing costs: an attempt is counted before its code is looked at, and written down after.

Both happen in transactions of their own. Counting afterwards, or in the caller's transaction, would
let parallel guesses through before the first one counts, and give them back with a rollback.
"""

from __future__ import annotations

import logging
import math
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from rootstream_db.audit import current_audit_context
from rootstream_db.errors import FactorDisabledError, TooManyAttemptsError
from rootstream_db.models.mfa import MfaAttemptMethod, MfaOutcome, MfaThrottle
from rootstream_db.models.security_events import SecurityEventKind
from rootstream_db.security.lock_times import doubling_lock
from rootstream_db.services.accounts.journal import AGGREGATE
from rootstream_db.services.security_events.values import Report

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rootstream_db.database import Database
    from rootstream_db.services.event_store import EventStore
    from rootstream_db.services.security_events import SecurityMonitor
    from rootstream_db.settings import MfaSettings
    from rootstream_db.unit_of_work import UnitOfWork

_logger: Final = logging.getLogger(__name__)


def lock_duration(failures: int, settings: MfaSettings) -> timedelta | None:
    """Return how long a method is locked with that many failures in a row, or None.

    The first lock lasts ``lockout_base``; every further failure doubles it up to ``lockout_max``.
    """
    return doubling_lock(
        failures,
        allowed=settings.free_attempts,
        base=settings.lockout_base,
        longest=settings.lockout_max,
    )


class AttemptLedger:
    """Counts and writes down attempts at second factors, by account and method.

    The counter moves for those who passed the first factor only, so that strangers cannot lock an
    owner out: whoever calls has checked the password, or a session.
    """

    def __init__(
        self,
        database: Database,
        events: EventStore,
        settings: MfaSettings,
        *,
        security: SecurityMonitor | None = None,
    ) -> None:
        self._security = security
        self._database = database
        self._events = events
        self._settings = settings

    def reserve(self, user_id: int, method: MfaAttemptMethod) -> None:
        """Count one attempt, which is then made.

        Raises:
            TooManyAttemptsError: the method is locked; the attempt must not be made.
            FactorDisabledError: as many attempts in a row failed as may ever fail.
        """
        with self._database.independent() as work:
            refusal = self._refusal(work, user_id, method)
        if refusal is not None:
            raise refusal

    def record(
        self,
        user_id: int,
        method: MfaAttemptMethod,
        outcome: MfaOutcome,
        *,
        factor_id: uuid.UUID | None = None,
    ) -> None:
        """Write down what became of an attempt; a success makes the failures before it forgotten.

        If the process dies between this and the caller's commit, the attempt stands here as
        accepted, the code is not spent, and nobody was let in.
        """
        with self._database.independent() as work:
            _write(work, user_id, method, outcome, factor_id=factor_id)
            if outcome is MfaOutcome.ACCEPTED:
                work.mfa_throttle.clear(user_id, [method])
            else:
                self._tell_if_disabled(work, user_id, method)
        if self._security is not None and outcome is not MfaOutcome.ACCEPTED:
            details = {"method": method.value, "outcome": outcome.value}
            kind = SecurityEventKind.MFA_FAILED
            self._security.record(Report(kind=kind, user_id=user_id, details=details))

    def clear(self, user_id: int, methods: Iterable[MfaAttemptMethod] = MfaAttemptMethod) -> None:
        """Forget the failures of these methods and open them."""
        with self._database.independent() as work:
            work.mfa_throttle.clear(user_id, methods)

    def is_disabled(self, row: MfaThrottle) -> bool:
        """Whether as many attempts in a row failed as may ever fail."""
        return row.failures >= self._settings.disable_after

    def _refusal(
        self, work: UnitOfWork, user_id: int, method: MfaAttemptMethod
    ) -> TooManyAttemptsError | FactorDisabledError | None:
        limit = self._settings.disable_after
        failures = work.mfa_throttle.reserve(user_id, method, now=work.now, limit=limit)
        if failures is not None:
            self._lock(work, user_id, method, failures)
            return None
        row = work.mfa_throttle.find(user_id, method)
        if row is not None and self.is_disabled(row):
            _write(work, user_id, method, MfaOutcome.DISABLED)
            return FactorDisabledError(
                f"the {_spoken(method)} failed {row.failures} times in a row and is disabled: "
                "use another factor, or ask an operator",
                method=method.value,
            )
        _write(work, user_id, method, MfaOutcome.THROTTLED)
        seconds = row.wait(work.now).total_seconds() if row is not None else 0.0
        return TooManyAttemptsError(
            f"too many wrong codes: try again in {math.ceil(seconds)} s", retry_after=seconds
        )

    def _lock(
        self, work: UnitOfWork, user_id: int, method: MfaAttemptMethod, failures: int
    ) -> None:
        lock = lock_duration(failures, self._settings)
        if lock is not None:
            work.mfa_throttle.lock(user_id, method, work.now + lock)
            _logger.warning("the %s of user %d is locked for %s", _spoken(method), user_id, lock)

    def _tell_if_disabled(self, work: UnitOfWork, user_id: int, method: MfaAttemptMethod) -> None:
        row = work.mfa_throttle.find(user_id, method)
        if row is None or not self.is_disabled(row):
            return
        _logger.error("the %s of user %d is disabled", _spoken(method), user_id)
        data = {"method": method.value, "failures": row.failures}
        aggregate = (AGGREGATE, str(user_id))
        self._events.append(work, *aggregate, "MfaMethodDisabled", data, user_id=user_id)


def _write(
    work: UnitOfWork,
    user_id: int,
    method: MfaAttemptMethod,
    outcome: MfaOutcome,
    *,
    factor_id: uuid.UUID | None = None,
) -> None:
    context = current_audit_context()
    work.mfa_attempts.add(
        user_id,
        method,
        outcome,
        factor_id=factor_id,
        ip_address=context.ip_address if context is not None else None,
        now=work.now,
    )


def _spoken(method: MfaAttemptMethod) -> str:
    return method.value.replace("_", " ")
