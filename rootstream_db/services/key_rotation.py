"""Rotation of master keys: everything that is sealed is sealed anew, while it is in use."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, Final

from rootstream_db.clock import Clock, utc_now
from rootstream_db.errors import ConflictError, SealBrokenError
from rootstream_db.models import MfaFactor, RecoveryCode, SubjectKey, WebhookEndpoint
from rootstream_db.repositories.sealed_values import (
    UNSEALED,
    SealedColumn,
    SealedValue,
    SealedValueRepository,
)
from rootstream_db.security.keyring import REFRESH_SECONDS, KeyRing, row_context
from rootstream_db.services.mfa.authenticators import PURPOSE as TOTP_PURPOSE
from rootstream_db.services.mfa.backup_codes import PURPOSE as BACKUP_CODE_PURPOSE
from rootstream_db.services.mfa.passkeys import PURPOSE as PASSKEY_PURPOSE
from rootstream_db.services.subject_keys import PURPOSE as SUBJECT_PURPOSE
from rootstream_db.services.webhooks.signing import PURPOSE as WEBHOOK_PURPOSE
from rootstream_db.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    from rootstream_db.database import Database
    from rootstream_db.security.key_file import MasterKeyFile
    from rootstream_db.services.event_store import EventStore

SEALED: Final = (
    SealedColumn(
        model=SubjectKey, name="wrapped", purpose=SUBJECT_PURPOSE, bound_to=("subject_id",)
    ),
    SealedColumn(model=MfaFactor, name="secret", purpose=TOTP_PURPOSE, bound_to=("user_id", "id")),
    SealedColumn(
        model=MfaFactor, name="public_key", purpose=PASSKEY_PURPOSE, bound_to=("user_id", "id")
    ),
    SealedColumn(
        model=RecoveryCode,
        name="code_hash",
        purpose=BACKUP_CODE_PURPOSE,
        bound_to=("user_id", "slot"),
    ),
    SealedColumn(model=WebhookEndpoint, name="secret", purpose=WEBHOOK_PURPOSE, bound_to=("id",)),
)
"""Every column whose values the key ring seals."""

BATCH: Final = 500
"""Values of one transaction: their rows are locked for some ten milliseconds."""

SETTLED_AFTER: Final = timedelta(seconds=2 * REFRESH_SECONDS)
"""After a change of the keys, the time in which somebody may still seal with the old one."""

_logger: Final = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyUse:
    """What is known of one master key.

    Attributes:
        key_id: its number; 0 stands for values that are not sealed yet.
        known: whether the ring has it: what is sealed under another one cannot be opened.
        writes: whether it seals.
        values: values under it, by column; columns without any are left out.
    """

    key_id: int
    known: bool
    writes: bool
    values: dict[str, int]

    @property
    def total(self) -> int:
        """Return how many values are under it."""
        return sum(self.values.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Rotation:
    """What came of a rotation.

    Attributes:
        key_id: the key that everything is under now.
        resealed: values that were sealed anew.
        broken: places of values that do not open; they stay as they are.
        lost: values under keys that the ring does not have.
    """

    key_id: int
    resealed: int
    broken: tuple[str, ...]
    lost: int

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left under another key."""
        return not (self.broken or self.lost)


class KeyRotation:
    """Moves what is sealed to the key that seals.

    It works in small transactions, in the order of the rows, and passes by rows that are in use to
    come back to them. Interrupted at any point, it goes on where it was; several may run at once.

    Args:
        database: where the sealed values are.
        keyring: returns the key ring.
        events: where rotations are recorded.
        clock: the source of the current time.
        columns: what is sealed.
    """

    def __init__(
        self,
        database: Database,
        keyring: Callable[[], KeyRing],
        events: EventStore,
        *,
        clock: Clock = utc_now,
        columns: Sequence[SealedColumn] = SEALED,
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._events = events
        self._clock = clock
        self._columns = columns

    def status(self) -> list[KeyUse]:
        """Return every key of the ring, and every other one that values are under."""
        keyring = self._keyring()
        keyring.refresh()
        counts = self._counts()
        used = {key_id for by_key in counts.values() for key_id in by_key}
        return [
            KeyUse(
                key_id=key_id,
                known=key_id == UNSEALED or key_id in keyring.key_ids,
                writes=key_id == keyring.writer,
                values={
                    str(column): by_key[key_id]
                    for column, by_key in counts.items()
                    if key_id in by_key
                },
            )
            for key_id in sorted({*keyring.key_ids, *used})
        ]

    def rotate(
        self, *, batch: int = BATCH, progress: Callable[[int], object] | None = None
    ) -> Rotation:
        """Seal everything under the key that seals.

        Args:
            batch: values of one transaction.
            progress: called with the number of values looked at since its last call.

        Raises:
            StorageTimeoutError: a row stayed locked; what was done until then stays done.
        """
        keyring = self._keyring()
        keyring.refresh()
        writer, known = keyring.writer, {UNSEALED, *keyring.key_ids}
        resealed, lost, broken = 0, 0, dict[str, None]()
        for column, by_key in self._counts().items():
            lost += sum(count for key_id, count in by_key.items() if key_id not in known)
            # First what is free, then what was in use meanwhile.
            for key_id, wait in product(sorted(known & by_key.keys() - {writer}), (False, True)):
                walk = _Walk(column, key_id, keyring, batch=batch, wait=wait)
                self._go(walk, progress)
                resealed += walk.resealed
                broken |= dict.fromkeys(walk.broken)
        if resealed:
            self._database.run(partial(self._record, writer, resealed))
        return Rotation(key_id=writer, resealed=resealed, broken=tuple(broken), lost=lost)

    def drop(self, key_id: int, file: MasterKeyFile) -> None:
        """Remove a key from the file of the master keys, once nothing is under it.

        Raises:
            ConflictError: something is, or may still come to be; or it is the key that seals.
            NotFoundError: the file does not have it.
        """
        settled = file.changed_at() + SETTLED_AFTER
        if self._clock() < settled:
            raise ConflictError(
                f"the master keys changed a moment ago, and somebody may still seal under key "
                f"{key_id}: rotate and drop it after {settled.isoformat(timespec='seconds')}"
            )
        self.require_unused(key_id)
        file.drop(key_id)
        self._keyring().refresh()

    def require_unused(self, key_id: int) -> None:
        """Make sure that nothing is under a key, so that it can be dropped.

        Raises:
            ConflictError: something is; the message says what.
        """
        left = {str(column): by_key.get(key_id, 0) for column, by_key in self._counts().items()}
        used = [f"{count} in {column}" for column, count in left.items() if count]
        if used:
            raise ConflictError(
                f"values are still under master key {key_id} ({', '.join(used)}): rotate first, "
                "or they are lost",
                key_id=key_id,
            )

    def _go(self, walk: _Walk, progress: Callable[[int], object] | None) -> None:
        while not walk.is_over:
            done = self._database.run(walk.step, idempotent=True)
            walk.go_on(done)
            if progress is not None:
                progress(len(done.seen))

    def _counts(self) -> dict[SealedColumn, dict[int, int]]:
        with self._database.read() as work:
            values = SealedValueRepository(work.session)
            return {column: values.count_by_key(column) for column in self._columns}

    def _record(self, writer: int, resealed: int, work: UnitOfWork) -> None:
        data = {"key_id": writer, "resealed": resealed}
        self._events.append(work, "KeyRing", "master", "KeysRotated", data)


@dataclass(frozen=True, slots=True)
class _Done:
    """What one transaction did."""

    seen: list[tuple[Any, ...]]
    resealed: int
    broken: list[str]


class _Walk:
    """One way through the values of a column that are under one key."""

    def __init__(
        self, column: SealedColumn, key_id: int, keyring: KeyRing, *, batch: int, wait: bool
    ) -> None:
        self._column = column
        self._key_id = key_id
        self._keyring = keyring
        self._batch = batch
        self._wait = wait
        self._after: tuple[Any, ...] | None = None
        self.is_over = False
        self.resealed = 0
        self.broken: list[str] = []

    def step(self, work: UnitOfWork) -> _Done:
        """Seal the next values anew."""
        values = SealedValueRepository(work.session)
        found = values.lock_batch(
            self._column, self._key_id, after=self._after, limit=self._batch, wait=self._wait
        )
        changed, broken = [], []
        for value in found:
            try:
                sealed = self._resealed(value)
                changed.append((value._replace(value=sealed), KeyRing.key_id(sealed)))
            except SealBrokenError as error:
                place = f"{self._column} of {'/'.join(map(str, value.key))}"
                _logger.error("%s does not open: %s", place, error)  # noqa: TRY400 - one line each
                broken.append(place)
        values.replace(self._column, changed)
        return _Done([value.key for value in found], len(changed), broken)

    def go_on(self, done: _Done) -> None:
        """Move behind what a committed transaction did."""
        self.resealed += done.resealed
        self.broken += done.broken
        self.is_over = len(done.seen) < self._batch
        if done.seen:
            self._after = done.seen[-1]

    def _resealed(self, value: SealedValue) -> bytes:
        purpose = self._column.purpose
        context = row_context(self._column.table.name, *value.bound_to)
        secret = value.value
        if self._key_id != UNSEALED:
            secret = self._keyring.open(secret, purpose=purpose, context=context)
        return self._keyring.seal(secret, purpose=purpose, context=context)
