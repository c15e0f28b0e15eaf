"""Whether a token opens anything: asked at every request, so answered from the cache if possible.

The path of a token that holds is short: its form, its digest, one GET, the entry's authenticity, a
few comparisons. Everything else is decided by PostgreSQL.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from rootstream_db.cache.forks import watch_forks
from rootstream_db.errors import (
    AuthBackendUnavailableError,
    CacheUnavailableError,
    DatabaseUnavailableError,
    InvalidTokenError,
    ReauthenticationRequiredError,
    SessionExpiredError,
    SessionRevokedError,
    StorageError,
    StorageTimeoutError,
)
from rootstream_db.repositories.session_rows import FIND_SQL, found_session
from rootstream_db.security.assurance import AssuranceLevel
from rootstream_db.security.tokens import TokenKind
from rootstream_db.services.sessions.entry import (
    NO_FINGERPRINT,
    Entry,
    EntryCodec,
    entry_of,
    microseconds,
    moment,
    span,
)
from rootstream_db.services.sessions.info import SessionInfo
from rootstream_db.services.sessions.rules import known_address
from rootstream_db.services.sessions.store import ABSENT, ENDING, OVER, REPLACED
from rootstream_db.services.sessions.verdict import Verdict, verdict_on

if TYPE_CHECKING:
    from rootstream_db.clock import Clock
    from rootstream_db.database import Database
    from rootstream_db.repositories.session_rows import FoundSession
    from rootstream_db.security.token_mint import TokenMint
    from rootstream_db.services.sessions.devices import DevicePolicy
    from rootstream_db.services.sessions.endings import Endings
    from rootstream_db.services.sessions.memory import SessionMemory
    from rootstream_db.services.sessions.store import SessionStore
    from rootstream_db.settings import SessionSettings

CLOCK_SKEW: Final = timedelta(seconds=5)
"""How far the clocks of two processes may differ; entries from further in the future are not
trusted, because nobody knows how old they are."""

_UNREACHABLE: Final = b""
"""Stands for a value that Redis could not be asked for."""

_LEVELS: Final = tuple(AssuranceLevel)
_logger: Final = logging.getLogger(__name__)


class SessionChecker:
    """Answers whether a token opens a session.

    Attributes:
        forged: cached entries so far that none of us can have written.
    """

    def __init__(
        self,
        database: Database,
        store: SessionStore,
        mint: TokenMint,
        *,
        endings: Endings,
        devices: DevicePolicy,
        memory: SessionMemory | None,
        settings: SessionSettings,
        clock: Clock,
    ) -> None:
        self.forged = 0
        self._database = database
        self._store = store
        self._mint = mint
        self._endings = endings
        self._devices = devices
        self._memory = memory
        self._settings = settings
        self._clock = clock
        self._codecs = {
            f"{TokenKind.SESSION}{version}": EntryCodec(key)
            for version, key in mint.derived_keys("session entry").items()
        }
        self._generation = 0
        self._learning = threading.Lock()
        watch_forks(self)
        self._max_stale = span(settings.max_stale)
        self._touch_interval = span(settings.touch_interval)
        self._mfa_ttl = span(settings.mfa_ttl)
        self._skew = span(CLOCK_SKEW)

    def check(
        self,
        token: str,
        *,
        device_fingerprint: str | None,
        ip_address: str | None,
        ask_postgres: bool = False,
    ) -> SessionInfo:
        """Return the session that the token opens; ``SessionManager.validate`` says what else."""
        digest = self._mint.digest(token, TokenKind.SESSION)
        pepper = token.partition("_")[0]
        now = microseconds(self._clock())
        memory = self._memory
        entry = None if memory is None or ask_postgres else memory.get(digest, now)
        if entry is None or not self._is_good(entry, now):
            begun = 0 if memory is None else memory.begin()
            entry = self._read(digest, pepper, now, ip_address, ask_postgres=ask_postgres)
            if memory is not None:
                memory.keep(digest, entry, now, begun=begun)
        if (
            device_fingerprint is not None
            and entry.fingerprint != NO_FINGERPRINT
            and not self._devices.is_of(entry.fingerprint, device_fingerprint, pepper)
        ):
            is_news = entry.last_seen_at == now
            self._devices.meet(digest, entry, is_news=is_news, ip_address=ip_address)
        level = entry.level
        if level > AssuranceLevel.PASSWORD and now - entry.mfa_at >= self._mfa_ttl:
            level = AssuranceLevel.PASSWORD
        return SessionInfo(entry, _LEVELS[level], now)

    def fill(self, digest: bytes, pepper: str, entry: Entry) -> None:
        """Put a session into the cache that was not there before."""
        with suppress(CacheUnavailableError):
            self._store.fill(digest, self._codecs[pepper].encode(digest, entry), entry)

    def learn_generation(self, generation: int) -> None:
        """Trust no entry of an older generation any more."""
        if generation > self._generation:
            with self._learning:
                self._generation = max(self._generation, generation)

    def after_fork(self) -> None:
        """Replace a lock that another thread of the parent may have held."""
        self._learning = threading.Lock()

    def _read(
        self, digest: bytes, pepper: str, now: int, ip_address: str | None, *, ask_postgres: bool
    ) -> Entry:
        codec = self._codecs[pepper]
        try:
            value = self._store.get(digest)
        except StorageError:
            value = _UNREACHABLE
        entry = None if value is None else codec.decode(digest, value)
        if entry is not None and not ask_postgres and self._is_good(entry, now):
            self.learn_generation(entry.generation)
            return entry
        if value == OVER:
            raise _over()
        if value == ABSENT and not ask_postgres:
            raise InvalidTokenError("unknown")
        if value and entry is None and value not in {ENDING, REPLACED, ABSENT}:
            self.forged += 1
            _logger.error(
                "the cached entry of session token %s… is not one of ours: PostgreSQL is asked",
                digest.hex()[:8],
            )
        return self._consult(
            digest,
            codec,
            value,
            cached=entry,
            may_serve=not ask_postgres,
            now=now,
            ip_address=ip_address,
        )

    def _is_good(self, entry: Entry, now: int) -> bool:
        """Whether an entry answers by itself, with nothing to be asked or written."""
        return (
            now - self._max_stale < entry.checked_at <= now + self._skew
            and entry.checked_at > self._store.trusted_from
            and now - entry.last_seen_at < self._touch_interval
            and now < entry.idle_expires_at
            and entry.generation >= self._generation
            and entry.level > AssuranceLevel.NONE
        )

    def _will_do(self, entry: Entry, now: int) -> bool:
        """Whether an entry may answer while PostgreSQL cannot be asked."""
        return (
            now - self._max_stale < entry.checked_at <= now + self._skew
            and now < entry.idle_expires_at
            and entry.generation >= self._generation
            and entry.level > AssuranceLevel.NONE
        )

    def _consult(
        self,
        digest: bytes,
        codec: EntryCodec,
        value: bytes | None,
        *,
        cached: Entry | None,
        may_serve: bool,
        now: int,
        ip_address: str | None,
    ) -> Entry:
        """Ask PostgreSQL, and let the cache know.

        Args:
            digest: of the token.
            codec: of the pepper it is made with.
            value: what Redis holds.
            cached: the entry in it, if it is one.
            may_serve: whether that may be the answer if PostgreSQL has none.
            now: when this began.
            ip_address: where the request came from.
        """
        try:
            found = found_session(self._database.fetch_one(FIND_SQL, (digest,)))
        except (DatabaseUnavailableError, StorageTimeoutError) as error:
            if may_serve and cached is not None and self._will_do(cached, now):
                return cached
            raise AuthBackendUnavailableError(
                "whether the session holds cannot be found out now: PostgreSQL does not answer"
            ) from error
        self._endings.make_up_for_losses()
        holding = self._judge(digest, value, found, now)
        self.learn_generation(holding.current_generation)
        entry = self._touched(entry_of(holding, checked_at=now), now, ip_address)
        if not self._is_known(entry, cached):
            self._keep(digest, codec, value, entry)
        return entry

    def _judge(
        self, digest: bytes, value: bytes | None, found: FoundSession | None, now: int
    ) -> FoundSession:
        """Return the session if it holds; otherwise say why it does not."""
        verdict = verdict_on(found, now=moment(now), grace=self._settings.rotation_grace)
        if found is None:
            self._note_unknown(digest, value)
            raise InvalidTokenError("unknown")
        if verdict is Verdict.HOLDS:
            return found
        if verdict is Verdict.EXPIRED:
            raise SessionExpiredError("the session has expired: log in again")
        if verdict is Verdict.SUSPENDED:
            raise ReauthenticationRequiredError(
                "the session was used from another device: log in again to go on with it"
            )
        replaced = verdict is not Verdict.OVER
        if value is not _UNREACHABLE and value != (REPLACED if replaced else OVER):
            with suppress(CacheUnavailableError):
                self._store.mark_over([digest], replaced=replaced)
        if verdict is Verdict.STOLEN:
            self._devices.end_stolen(found)
        raise _over()

    def _note_unknown(self, digest: bytes, value: bytes | None) -> None:
        if value == _UNREACHABLE:
            return
        with suppress(CacheUnavailableError):
            if value is None:
                self._store.note_absence(digest)
            else:
                # It was there once: its account was deleted, or the row was cleaned up.
                self._store.mark_over([digest])

    def _touched(self, entry: Entry, now: int, ip_address: str | None) -> Entry:
        """Write down that the session is used, if that was not done lately."""
        if now - entry.last_seen_at < self._touch_interval:
            return entry
        settings = self._settings
        try:
            with self._database.transaction() as work:
                until = work.sessions.touch(
                    entry.session_id,
                    now=moment(now),
                    interval=settings.touch_interval,
                    idle=settings.idle_ttl,
                    ip_address=known_address(ip_address),
                )
        except StorageError as error:
            # The session holds all the same; the next use tries again.
            _logger.debug("session %d was not touched: %s", entry.session_id, error)
            return entry
        if until is None:
            return entry
        return entry._replace(last_seen_at=now, idle_expires_at=microseconds(until))

    def _is_known(self, entry: Entry, cached: Entry | None) -> bool:
        """Whether the cache says the same and will go on being trusted for a while."""
        return (
            cached is not None
            and cached._replace(checked_at=entry.checked_at) == entry
            and cached.checked_at > self._store.trusted_from
            and 0 <= entry.checked_at - cached.checked_at < self._max_stale // 2
        )

    def _keep(self, digest: bytes, codec: EntryCodec, value: bytes | None, entry: Entry) -> None:
        if value in (_UNREACHABLE, ENDING):
            return
        fresh = codec.encode(digest, entry)
        with suppress(CacheUnavailableError):
            if value is None:
                self._store.fill(digest, fresh, entry)
            else:
                self._store.renew(digest, old=value, value=fresh, entry=entry)


def _over() -> SessionRevokedError:
    return SessionRevokedError("the session is over: log in again")
