"""How a session ends, so that it is over everywhere, whatever dies on the way.

In this order:

1. The rows are marked in the caller's transaction.
2. Redis is told that the sessions are *ending*: from now on whoever is shown one of their tokens
   asks PostgreSQL, which still says that they hold.
3. The transaction commits. From here on PostgreSQL says that they are over.
4. Redis is told that they are *over*, for as long as an older entry could turn up; processes that
   keep sessions in their own memory are told to drop them.

To die before 3, or to roll back, leaves nothing but a mark that costs look-ups until it expires. To
die between 3 and 4 leaves the same mark, and PostgreSQL refuses. When Redis cannot be told in 2, a
row in the same transaction remembers it, and an entry somewhere is trusted for ``max_stale`` at
most; with the row, whoever finds Redis again makes up for it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from rootstream_db.errors import CacheUnavailableError, StorageError
from rootstream_db.models import RevokeReason
from rootstream_db.repositories.session_rows import EndedSession
from rootstream_db.services.sessions.info import RevocationResult

if TYPE_CHECKING:
    from rootstream_db.cache import EventBus
    from rootstream_db.clock import Clock
    from rootstream_db.database import Database
    from rootstream_db.services.sessions.journal import SessionJournal
    from rootstream_db.services.sessions.store import SessionStore
    from rootstream_db.settings import SessionSettings
    from rootstream_db.unit_of_work import UnitOfWork

TOPIC: Final = "sessions"
"""Topic of the event bus on which ended and suspended sessions are announced.

For whoever holds something open for a session, such as a websocket. A message has ``digests`` and
``sessions``, the ids; ``everybody`` is true when all sessions ended.
"""

_PAUSE_SECONDS: Final = 5.0
"""Pause after Redis could not be told what it missed, though it was there: PostgreSQL was not."""

_logger: Final = logging.getLogger(__name__)


class Endings:
    """Ends sessions and tells who has to know.

    Attributes:
        journal: where it is recorded.
    """

    def __init__(
        self,
        database: Database,
        store: SessionStore,
        journal: SessionJournal,
        *,
        bus: EventBus,
        settings: SessionSettings,
        clock: Clock,
    ) -> None:
        self._database = database
        self._store = store
        self.journal = journal
        self._bus = bus
        self._settings = settings
        self._clock = clock
        self._losses_made_up_for = 0
        self._owes = False
        self._not_before = 0.0

    def end(
        self, work: UnitOfWork, ended: Sequence[EndedSession], *, reason: RevokeReason
    ) -> RevocationResult:
        """Tell of sessions that ended in this unit, and record it."""
        for user_id in sorted({one.user_id for one in ended}):
            ids = [one.id for one in ended if one.user_id == user_id]
            self.journal.ended(work, user_id, ids, reason)
        immediate = self.tell(
            work, [one.id for one in ended], [one.token_hash for one in ended], replaced=False
        )
        return self.result(len(ended), immediate=immediate)

    def end_now(
        self,
        choose: Callable[[UnitOfWork], Sequence[EndedSession]],
        *,
        reason: RevokeReason,
    ) -> RevocationResult:
        """End sessions in a transaction of its own."""
        done = self._database.run(
            lambda work: self.end(work, choose(work), reason=reason), idempotent=True
        )
        # What is trusted somewhere may have been checked until the commit.
        return self.result(done.revoked, immediate=done.immediate)

    def tell(
        self, work: UnitOfWork, ids: Sequence[int], digests: Sequence[bytes], *, replaced: bool
    ) -> bool:
        """Tell of sessions that end with this unit; return whether Redis knows already."""
        if not digests:
            return True
        try:
            self._store.mark_ending(digests)
        except CacheUnavailableError:
            work.session_invalidations.put(digests, rotated=replaced)
            self._owes = True
            return False
        work.after_commit(
            lambda: self._over(ids, digests, replaced=replaced), name="end cached sessions"
        )
        return True

    def result(self, revoked: int, *, immediate: bool) -> RevocationResult:
        """Return what became of a revocation."""
        delay = self._settings.memory_ttl if immediate else self._settings.max_stale
        return RevocationResult(
            revoked=revoked, immediate=immediate, effective_by=self._clock() + delay
        )

    def announce(self, message: dict[str, object]) -> None:
        """Tell whoever listens; who does not is told by the end of what it trusts."""
        with suppress(CacheUnavailableError):
            self._bus.publish(TOPIC, message)

    def forget_everybody(self, ended: int) -> RevocationResult:
        """Empty the cache after all sessions ended."""
        try:
            self._store.forget_all()
        except CacheUnavailableError:
            return self.result(ended, immediate=False)
        self.announce({"digests": [], "sessions": [], "everybody": True})
        # No mark keeps out what a look-up that began before puts back: its age does.
        effective_by = self._clock() + self._settings.max_stale
        return replace(self.result(ended, immediate=True), effective_by=effective_by)

    def make_up_for_losses(self, *, anyway: bool = False) -> None:
        """Tell Redis what it missed if this process saw it return, left it untold, or is to."""
        losses = self._store.losses
        has_to = anyway or self._owes or losses != self._losses_made_up_for
        if not has_to or not self._store.is_available:
            return
        if not anyway and time.monotonic() < self._not_before:
            return
        # First, so that of many threads that come here at once few do it.
        self._losses_made_up_for, self._owes = losses, False
        try:
            self.drain()
        except StorageError as error:
            self._owes = True
            self._not_before = time.monotonic() + _PAUSE_SECONDS
            _logger.debug("invalidations wait for their next chance: %s", error)

    def drain(self) -> int:
        """Tell Redis of all sessions that ended while it could not be told; return how many.

        Raises:
            CacheUnavailableError: Redis is still down; nothing is forgotten.
        """
        drained = 0
        while batch := self._database.run(self._drain_batch, idempotent=True):
            drained += batch
        return drained

    def _drain_batch(self, work: UnitOfWork) -> int:
        rows = work.session_invalidations.take()
        for replaced in (False, True):
            digests = [row.token_hash for row in rows if row.rotated is replaced]
            self._store.mark_over(digests, replaced=replaced)
        if rows:
            told: dict[str, object] = {
                "digests": [row.token_hash.hex() for row in rows],
                "sessions": [],
            }
            work.after_commit(lambda: self.announce(told), name="announce ended sessions")
        return len(rows)

    def _over(self, ids: Sequence[int], digests: Sequence[bytes], *, replaced: bool) -> None:
        # That they are ending is known; without this PostgreSQL goes on being asked.
        with suppress(CacheUnavailableError):
            self._store.mark_over(digests, replaced=replaced)
        self.announce({"digests": [one.hex() for one in digests], "sessions": list(ids)})
