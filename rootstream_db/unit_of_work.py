"""One transaction and what belongs to it: repositories, one instant, what follows the commit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Final

from sqlalchemy.orm import Session

from rootstream_db.clock import Clock
from rootstream_db.repositories.access import (
    AccessRepository,
    RoleGrantRepository,
    RoleRepository,
)
from rootstream_db.repositories.api_keys import ApiKeyRepository
from rootstream_db.repositories.billing import BillingAccountRepository, UsageLogRepository
from rootstream_db.repositories.counter_flushes import CounterFlushRepository
from rootstream_db.repositories.events import EventRepository
from rootstream_db.repositories.identities import ExternalIdentityRepository
from rootstream_db.repositories.mfa import (
    MfaAttemptRepository,
    MfaFactorRepository,
    MfaThrottleRepository,
    RecoveryCodeRepository,
)
from rootstream_db.repositories.passkey_challenges import PasskeyChallengeRepository
from rootstream_db.repositories.projections import (
    ActivityRepository,
    CheckpointRepository,
    StreamStatsRepository,
)
from rootstream_db.repositories.recordings import RecordingRepository
from rootstream_db.repositories.security_events import SecurityEventRepository
from rootstream_db.repositories.session_invalidations import SessionInvalidationRepository
from rootstream_db.repositories.sessions import AuthStateRepository, SessionRepository
from rootstream_db.repositories.stream_sessions import StreamSessionRepository
from rootstream_db.repositories.streams import (
    StreamKeyRepository,
    StreamLiveRepository,
    StreamRepository,
    StreamTotalsRepository,
)
from rootstream_db.repositories.subject_keys import SubjectKeyRepository
from rootstream_db.repositories.trusted_devices import TrustedDeviceRepository
from rootstream_db.repositories.users import (
    LoginThrottleRepository,
    UserRepository,
    UserTokenRepository,
)
from rootstream_db.repositories.viewer_sessions import ViewerSessionRepository
from rootstream_db.repositories.webhooks import (
    WebhookAttemptRepository,
    WebhookDeliveryRepository,
    WebhookEndpointRepository,
    WebhookRelayRepository,
)

_logger: Final = logging.getLogger(__name__)
_Translate = Callable[[Exception], Exception]


@dataclass(frozen=True)
class _Action:
    call: Callable[[], object]
    name: str
    key: Hashable


class UnitOfWork:
    """What a ``with database.transaction() as work`` block works with; made by ``Database`` only.

    Attributes:
        session: the SQLAlchemy session; repositories and services use it.
        now: the instant of this unit; everything written in it carries the same time.
    """

    def __init__(
        self,
        session: Session,
        *,
        clock: Clock,
        translate: _Translate | None = None,
        alone: Callable[[], AbstractContextManager[object]] | None = None,
    ) -> None:
        self.session = session
        self.now: datetime = clock()
        self._translate = translate
        self._alone = alone
        self._is_at_last_action = False
        self._before: list[_Action] = []
        self._after: list[_Action] = []
        self._pending: dict[str, list[Any]] = {}

    def before_commit(self, action: Callable[[], object], *, key: Hashable = None) -> None:
        """Run ``action`` last inside the transaction, once for each ``key``.

        Actions run in the order they came; one may add another. Without a key the action itself is
        the key: the same function or bound method given twice runs once.
        """
        key = action if key is None else key
        if all(known.key != key for known in self._before):
            self._before.append(_Action(action, "", key))

    def after_commit(self, action: Callable[[], object], *, name: str = "") -> None:
        """Run ``action`` once the transaction is committed; drop it if it is rolled back.

        A failing action is logged and counted, never raised: what must not be lost is written in
        the transaction. ``name`` is what the log calls it.
        """
        label = name or getattr(action, "__qualname__", repr(action))
        self._after.append(_Action(action, label, None))

    def pending(self, kind: str) -> list[Any]:
        """Return this unit's list of that kind, for what a before-commit action will write.

        Entries made inside a savepoint leave the list when the savepoint is rolled back.
        """
        return self._pending.setdefault(kind, [])

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo only this block if it fails: its writes, its actions and its pending entries.

        Errors of the database leave the block translated, so that
        ``try: with work.savepoint(): ... except ConflictError: ...`` goes on with the unit.
        """
        marks = self._marks()
        try:
            with self.session.begin_nested():
                # Sends SAVEPOINT now; SQLAlchemy waits for its own next statement otherwise, and
                # one made on the driver's connection would come before it.
                self.session.connection()
                yield
        except BaseException as error:
            self._return_to(marks)
            if self._translate is not None and isinstance(error, Exception):
                better = self._translate(error)
                if better is not error:
                    raise better from error
            raise

    def last_statement(self) -> AbstractContextManager[object]:
        """Let the statement of the block be the whole transaction, if it is all the unit does.

        For a before-commit action that ends with the block: if nothing was sent before it and
        nothing can follow, it needs no BEGIN and no COMMIT, two round trips of three. In any other
        unit the block is part of the transaction, as always.
        """
        session = self.session
        unwritten = session.new or session.dirty or session.deleted
        if self._alone is None or not self._is_at_last_action or unwritten:
            return nullcontext()
        return self._alone()

    def prepare_commit(self) -> None:
        """Write what is pending and run the before-commit actions; ``Database`` calls this."""
        self.session.flush()
        position = 0
        while position < len(self._before):
            self._is_at_last_action = position == len(self._before) - 1
            self._before[position].call()
            position += 1
        self.session.flush()

    def committed(self) -> int:
        """Run the after-commit actions and return how many failed; ``Database`` calls this."""
        failures = 0
        actions, self._after = self._after, []
        for action in actions:
            try:
                action.call()
            except Exception:
                failures += 1
                _logger.exception("after-commit action %s failed", action.name)
        return failures

    def _marks(self) -> tuple[int, int, dict[str, int]]:
        pending = {kind: len(entries) for kind, entries in self._pending.items()}
        return len(self._before), len(self._after), pending

    def _return_to(self, marks: tuple[int, int, dict[str, int]]) -> None:
        before, after, pending = marks
        del self._before[before:]
        del self._after[after:]
        for kind, entries in self._pending.items():
            del entries[pending.get(kind, 0) :]

    @cached_property
    def users(self) -> UserRepository:
        """Accounts."""
        return UserRepository(self.session)

    @cached_property
    def user_tokens(self) -> UserTokenRepository:
        """One-time tokens of accounts."""
        return UserTokenRepository(self.session)

    @cached_property
    def login_throttle(self) -> LoginThrottleRepository:
        """Failed logins."""
        return LoginThrottleRepository(self.session)

    @cached_property
    def sessions(self) -> SessionRepository:
        """Login sessions."""
        return SessionRepository(self.session)

    @cached_property
    def roles(self) -> RoleRepository:
        """Roles, what they hold and inherit."""
        return RoleRepository(self.session)

    @cached_property
    def role_grants(self) -> RoleGrantRepository:
        """Who has which role, where and until when."""
        return RoleGrantRepository(self.session)

    @cached_property
    def access(self) -> AccessRepository:
        """What decides about an account."""
        return AccessRepository(self.session)

    @cached_property
    def api_keys(self) -> ApiKeyRepository:
        """API keys."""
        return ApiKeyRepository(self.session)

    @cached_property
    def external_identities(self) -> ExternalIdentityRepository:
        """Who accounts are at other sites."""
        return ExternalIdentityRepository(self.session)

    @cached_property
    def auth_state(self) -> AuthStateRepository:
        """What holds for all sessions."""
        return AuthStateRepository(self.session)

    @cached_property
    def session_invalidations(self) -> SessionInvalidationRepository:
        """Ended sessions that Redis has to be told of."""
        return SessionInvalidationRepository(self.session)

    @cached_property
    def mfa_factors(self) -> MfaFactorRepository:
        """Authenticator apps and passkeys."""
        return MfaFactorRepository(self.session)

    @cached_property
    def recovery_codes(self) -> RecoveryCodeRepository:
        """Backup codes."""
        return RecoveryCodeRepository(self.session)

    @cached_property
    def trusted_devices(self) -> TrustedDeviceRepository:
        """Devices that need no second factor for a while."""
        return TrustedDeviceRepository(self.session)

    @cached_property
    def passkey_challenges(self) -> PasskeyChallengeRepository:
        """What passkeys are to sign."""
        return PasskeyChallengeRepository(self.session)

    @cached_property
    def mfa_attempts(self) -> MfaAttemptRepository:
        """Attempts at second factors."""
        return MfaAttemptRepository(self.session)

    @cached_property
    def mfa_throttle(self) -> MfaThrottleRepository:
        """Attempts at second factors that failed in a row."""
        return MfaThrottleRepository(self.session)

    @cached_property
    def streams(self) -> StreamRepository:
        """Streams: their configuration."""
        return StreamRepository(self.session)

    @cached_property
    def stream_keys(self) -> StreamKeyRepository:
        """Keys that may publish to a stream."""
        return StreamKeyRepository(self.session)

    @cached_property
    def stream_live(self) -> StreamLiveRepository:
        """Live leases."""
        return StreamLiveRepository(self.session)

    @cached_property
    def stream_totals(self) -> StreamTotalsRepository:
        """Lifetime totals of streams."""
        return StreamTotalsRepository(self.session)

    @cached_property
    def security_events(self) -> SecurityEventRepository:
        """What happened that bears on security."""
        return SecurityEventRepository(self.session)

    @cached_property
    def stream_sessions(self) -> StreamSessionRepository:
        """Broadcasts: one row from going live to the end."""
        return StreamSessionRepository(self.session)

    @cached_property
    def viewer_sessions(self) -> ViewerSessionRepository:
        """Who watched what, and for how long."""
        return ViewerSessionRepository(self.session)

    @cached_property
    def recordings(self) -> RecordingRepository:
        """Files of recorded broadcasts."""
        return RecordingRepository(self.session)

    @cached_property
    def billing_accounts(self) -> BillingAccountRepository:
        """Who pays."""
        return BillingAccountRepository(self.session)

    @cached_property
    def usage_logs(self) -> UsageLogRepository:
        """Metered usage."""
        return UsageLogRepository(self.session)

    @cached_property
    def events(self) -> EventRepository:
        """The event log."""
        return EventRepository(self.session)

    @cached_property
    def subject_keys(self) -> SubjectKeyRepository:
        """Keys of persons."""
        return SubjectKeyRepository(self.session)

    @cached_property
    def counter_flushes(self) -> CounterFlushRepository:
        """Flushes of counters that were already counted."""
        return CounterFlushRepository(self.session)

    @cached_property
    def webhook_relay(self) -> WebhookRelayRepository:
        """How far events were relayed to webhooks."""
        return WebhookRelayRepository(self.session)

    @cached_property
    def webhook_endpoints(self) -> WebhookEndpointRepository:
        """Addresses that are told of events."""
        return WebhookEndpointRepository(self.session)

    @cached_property
    def webhook_deliveries(self) -> WebhookDeliveryRepository:
        """Messages to webhooks."""
        return WebhookDeliveryRepository(self.session)

    @cached_property
    def webhook_attempts(self) -> WebhookAttemptRepository:
        """What attempts to deliver met."""
        return WebhookAttemptRepository(self.session)

    @cached_property
    def checkpoints(self) -> CheckpointRepository:
        """How far projections are."""
        return CheckpointRepository(self.session)

    @cached_property
    def stream_stats(self) -> StreamStatsRepository:
        """Statistics of streams by day, a read model."""
        return StreamStatsRepository(self.session)

    @cached_property
    def activity(self) -> ActivityRepository:
        """What users did, a read model."""
        return ActivityRepository(self.session)
