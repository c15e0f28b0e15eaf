"""What happens when a session is used where it should not be."""

from __future__ import annotations

import hmac
import logging
from contextlib import suppress
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from rootstream_db.errors import CacheUnavailableError, DeviceMismatchError
from rootstream_db.models import RevokeReason
from rootstream_db.models.sessions import FINGERPRINT_BYTES
from rootstream_db.security.tokens import TokenKind
from rootstream_db.services.sessions.rules import check_fingerprint, known_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootstream_db.database import Database
    from rootstream_db.repositories.session_rows import EndedSession, FoundSession
    from rootstream_db.security.token_mint import TokenMint
    from rootstream_db.services.sessions.endings import Endings
    from rootstream_db.services.sessions.entry import Entry
    from rootstream_db.services.sessions.store import SessionStore
    from rootstream_db.settings import SessionSettings
    from rootstream_db.unit_of_work import UnitOfWork

_logger: Final = logging.getLogger(__name__)


class DevicePolicy:
    """Knows devices; logs, suspends or ends a session that another one uses; ends stolen ones."""

    def __init__(
        self,
        database: Database,
        store: SessionStore,
        mint: TokenMint,
        *,
        endings: Endings,
        settings: SessionSettings,
    ) -> None:
        self._database = database
        self._store = store
        self._endings = endings
        self._policy = settings.device_policy
        self._keys = {
            f"{TokenKind.SESSION}{version}": key
            for version, key in mint.derived_keys("device fingerprint").items()
        }

    def digest(self, said: str | None, pepper: str) -> bytes | None:
        """Return under what a device is remembered by sessions of that pepper.

        It is keyed, because what there is to say about a device is easily guessed.

        Raises:
            ValidationError: what is said is too long.
        """
        text = check_fingerprint(said)
        if text is None:
            return None
        return blake2b(text, key=self._keys[pepper], digest_size=FINGERPRINT_BYTES).digest()

    def is_of(self, remembered: bytes, said: str, pepper: str) -> bool:
        """Whether that is said of the device which is remembered."""
        if hmac.compare_digest(self.digest(said, pepper) or b"", remembered):
            return True
        # A session that was rotated under a new pepper remembers its device by an older one.
        return any(
            hmac.compare_digest(self.digest(said, known) or b"", remembered) for known in self._keys
        )

    def meet(self, digest: bytes, entry: Entry, *, is_news: bool, ip_address: str | None) -> None:
        """Do what the policy says about a session that another device uses.

        Args:
            digest: of the session's token.
            entry: the session.
            is_news: whether this is the first such use in a while; others are not recorded, so
                that nobody can fill the event log.
            ip_address: where it was used from.

        Raises:
            DeviceMismatchError: unless the policy is to let it pass.
        """
        _logger.warning("session %d is used from another device", entry.session_id)
        if self._policy == "log":
            if is_news:
                self._database.run(lambda work: self._record(work, entry, ip_address))
            return
        if self._policy == "revoke":
            self._end_family(entry.user_id, entry.family, RevokeReason.DEVICE)
        else:
            self._database.run(lambda work: self._suspend(work, digest, entry, ip_address))
        raise DeviceMismatchError("the session belongs to another device: log in again")

    def end_stolen(self, found: FoundSession) -> None:
        """End what became of a session whose replaced token turned up again."""
        result = self._end_family(found.user_id, found.family, RevokeReason.REUSE)
        if result:
            _logger.error(
                "a replaced token of user %d was used again: the session that replaced it ended",
                found.user_id,
            )

    def _record(self, work: UnitOfWork, entry: Entry, ip_address: str | None) -> None:
        self._endings.journal.used_elsewhere(
            work, entry.user_id, entry.session_id, known_address(ip_address)
        )

    def _suspend(
        self, work: UnitOfWork, digest: bytes, entry: Entry, ip_address: str | None
    ) -> None:
        if work.sessions.suspend(entry.session_id) is None:
            return
        self._record(work, entry, ip_address)
        # Nobody trusts an older entry from now on; the next one says that it is suspended.
        with suppress(CacheUnavailableError):
            self._store.mark_ending([digest])
        told: dict[str, object] = {"digests": [digest.hex()], "sessions": [entry.session_id]}
        work.after_commit(lambda: self._endings.announce(told), name="announce suspended session")

    def _end_family(self, user_id: int, family: int, reason: RevokeReason) -> int:
        def choose(work: UnitOfWork) -> Sequence[EndedSession]:
            # First the account: a rotation under way comes before or after, not in between.
            work.users.lock(user_id)
            return work.sessions.revoke_family(user_id, family, now=work.now, reason=reason)

        return self._endings.end_now(choose, reason=reason).revoked
