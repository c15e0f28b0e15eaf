"""Keys of persons: made when first needed, kept for a while, gone for good when erased."""

from __future__ import annotations

import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from rootstream_db.security.keyring import KeyRing, row_context
from rootstream_db.security.subject_cipher import SubjectCipher, new_subject_key
from rootstream_db.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    from rootstream_db.cache import EventBus
    from rootstream_db.database import Database

TOPIC: Final = "subjects"
"""Topic of the event bus on which erasures are announced."""

PURPOSE: Final = "subject_keys.wrapped"
"""What persons' keys are sealed for."""

MAX_STALE: Final = 60.0
"""Seconds a process may go on opening after an erasure, if it does not hear of it."""

CAPACITY: Final = 10_000
"""Keys that a process keeps."""

_ERASED_HERE: Final = "erased subjects"
"""The list in ``UnitOfWork.pending``: whose keys the unit itself destroyed."""


class Erased(Enum):
    """What stands in place of personal data that was erased; it counts as false."""

    ERASED = "erased"

    def __bool__(self) -> bool:
        """Return False: there is nothing."""
        return False

    def __repr__(self) -> str:
        return "ERASED"


ERASED: Final = Erased.ERASED


class SubjectKeys:
    """Ciphers by person.

    A person's key is made in a transaction of its own, when personal data of theirs is recorded
    first; it is there before anything is sealed with it. Keys are kept in memory for at most
    ``max_stale``, and dropped when an erasure is announced.

    Args:
        database: where the sealed keys are.
        keyring: returns what seals them; asked when first needed.
        bus: carries the word of erasures.
        max_stale: seconds that a key is kept in memory.
        capacity: keys kept in memory.
    """

    def __init__(
        self,
        database: Database,
        keyring: Callable[[], KeyRing],
        *,
        bus: EventBus | None = None,
        max_stale: float = MAX_STALE,
        capacity: int = CAPACITY,
    ) -> None:
        from rootstream_db.cache.forks import watch_forks

        self._database = database
        self._keyring = keyring
        self._bus = bus
        self._max_stale = max_stale
        self._capacity = capacity
        self._is_listening = False
        self.after_fork()
        watch_forks(self)

    def subject_of(self, work: UnitOfWork, user_id: int) -> uuid.UUID | None:
        """Return by which id a user's personal data is known; None if there is no such account."""
        known = self._subjects.get(user_id)
        if known is None:
            known = work.users.get_subject_id(user_id)
            if known is not None:
                with self._lock:
                    self._subjects[user_id] = known
                    if len(self._subjects) > self._capacity:
                        del self._subjects[next(iter(self._subjects))]
        return known

    def for_sealing(self, work: UnitOfWork, subject_id: uuid.UUID) -> SubjectCipher | None:
        """Return the cipher of a person, with a new key if they have none; None if erased."""
        if subject_id in work.pending(_ERASED_HERE):
            return None
        known = self._kept(subject_id)
        if known is not None:
            return known[0]
        found = work.subject_keys.find_wrapped([subject_id])
        if subject_id not in found:
            found = self._make(subject_id)
        return self._keep(subject_id, found[subject_id])

    def for_opening(
        self, subject_ids: Iterable[uuid.UUID], work: UnitOfWork | None = None
    ) -> dict[uuid.UUID, SubjectCipher | None]:
        """Return the ciphers of persons; None for who was erased, or has no key."""
        self._listen()
        erased_here = work.pending(_ERASED_HERE) if work is not None else ()
        ciphers: dict[uuid.UUID, SubjectCipher | None] = {}
        missing = []
        for subject_id in set(subject_ids):
            known = self._kept(subject_id)
            if subject_id in erased_here:
                ciphers[subject_id] = None
            elif known is not None:
                ciphers[subject_id] = known[0]
            else:
                missing.append(subject_id)
        if missing:
            with nullcontext(work) if work is not None else self._database.read() as unit:
                found = unit.subject_keys.find_wrapped(missing)
            for subject_id in missing:
                # Who has no key may get one any time: only an erasure is remembered.
                ciphers[subject_id] = (
                    self._keep(subject_id, found[subject_id]) if subject_id in found else None
                )
        return ciphers

    def erase(self, work: UnitOfWork, subject_id: uuid.UUID) -> bool:
        """Destroy a person's key with the unit's commit; False if that was done before.

        All processes that hear of it forget the key at once, all others within ``max_stale``.
        """
        erased = work.subject_keys.erase(subject_id, work.now)
        work.pending(_ERASED_HERE).append(subject_id)
        work.after_commit(partial(self._announce, subject_id), name="erasure of a subject")
        return erased

    def after_fork(self) -> None:
        """Begin empty, with a lock that nobody holds."""
        self._lock = threading.Lock()
        self._ciphers: OrderedDict[uuid.UUID, tuple[SubjectCipher | None, float]] = OrderedDict()
        self._subjects: dict[int, uuid.UUID] = {}

    def _kept(self, subject_id: uuid.UUID) -> tuple[SubjectCipher | None] | None:
        with self._lock:
            entry = self._ciphers.get(subject_id)
            if entry is None or time.monotonic() >= entry[1]:
                return None
            self._ciphers.move_to_end(subject_id)
            return (entry[0],)

    def _keep(self, subject_id: uuid.UUID, wrapped: bytes | None) -> SubjectCipher | None:
        cipher = None if wrapped is None else SubjectCipher(self._unwrapped(subject_id, wrapped))
        with self._lock:
            now = time.monotonic()
            entry = self._ciphers.get(subject_id)
            # What was read before an erasure does not replace what came of it.
            if not (entry is not None and entry[0] is None and now < entry[1]):
                self._ciphers[subject_id] = (cipher, now + self._max_stale)
            while len(self._ciphers) > self._capacity:
                self._ciphers.popitem(last=False)
        return cipher

    def _make(self, subject_id: uuid.UUID) -> dict[uuid.UUID, bytes | None]:
        keyring = self._keyring()
        wrapped = keyring.seal(new_subject_key(), purpose=PURPOSE, context=_row(subject_id))
        # On its own: other writers do not wait for this unit, and nothing is kept in memory that
        # could still be rolled back.
        with self._database.independent() as own:
            own.subject_keys.add_if_missing(subject_id, wrapped, keyring.key_id(wrapped))
            return own.subject_keys.find_wrapped([subject_id])

    def _unwrapped(self, subject_id: uuid.UUID, wrapped: bytes) -> bytes:
        return self._keyring().open(wrapped, purpose=PURPOSE, context=_row(subject_id))

    def _listen(self) -> None:
        if self._is_listening or self._bus is None:
            return
        with self._lock:
            first, self._is_listening = not self._is_listening, True
        if first:
            self._bus.on_reconnect(self._forget_all)
            self._bus.subscribe(TOPIC, self._hear)

    def _announce(self, subject_id: uuid.UUID) -> None:
        self._forget(subject_id)
        if self._bus is not None:
            self._bus.publish(TOPIC, {"erased": str(subject_id)})

    def _hear(self, _topic: str, message: dict[str, Any]) -> None:
        self._forget(uuid.UUID(message["erased"]))

    def _forget(self, subject_id: uuid.UUID) -> None:
        with self._lock:
            self._ciphers[subject_id] = (None, time.monotonic() + self._max_stale)

    def _forget_all(self) -> None:
        """Look again: erasures may have been announced while nothing could be heard."""
        with self._lock:
            self._ciphers.clear()


def _row(subject_id: uuid.UUID) -> bytes:
    return row_context("subject_keys", subject_id)
