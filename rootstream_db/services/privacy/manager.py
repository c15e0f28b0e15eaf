"""Persons and what is stored about them: given to them as a copy, or ended for good."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from rootstream_db.clock import Clock, utc_now
from rootstream_db.models.users import User
from rootstream_db.repositories.personal_records import PersonalRecordRepository
from rootstream_db.repositories.subject_keys import Erasure
from rootstream_db.services.accounts.journal import AGGREGATE
from rootstream_db.services.privacy.export import Exporter
from rootstream_db.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    from rootstream_db.cache import RedisCache
    from rootstream_db.database import Database
    from rootstream_db.security.login_digests import LoginDigests
    from rootstream_db.services.accounts import AccountManager
    from rootstream_db.services.event_store import EventStore
    from rootstream_db.services.streams import StreamManager

FILES_OF_ONE_EVENT: Final = 1000
"""Names of files that one event holds at most."""

_PAGE: Final = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class ErasedUser:
    """What an erasure did.

    Attributes:
        user_id: the number the account had; it is never given again.
        subject_id: by which the erasure ledger knows the person.
        streams: streams that were deleted.
        recording_files: files that their recordings left on disk: delete them.
    """

    user_id: int
    subject_id: uuid.UUID
    streams: int
    recording_files: tuple[str, ...]


class PrivacyManager:
    """Answers the two questions a person may ask: what do you have of me, and: delete it.

    Args:
        database: where everything is stored.
        events: the event log, with the keys of persons.
        accounts: deletes accounts, with sessions and whatever hangs on them.
        streams: ends broadcasts and deletes streams.
        cache: where profiles may be cached.
        digests: what failed logins are counted by.
        clock: the source of the current time.
    """

    def __init__(
        self,
        database: Database,
        events: EventStore,
        *,
        accounts: AccountManager,
        streams: StreamManager,
        cache: RedisCache,
        digests: LoginDigests,
        clock: Clock = utc_now,
    ) -> None:
        self._database = database
        self._digests = digests
        self._events = events
        self._accounts = accounts
        self._streams = streams
        self._cache = cache
        self._exporter = Exporter(database, events, clock)

    def export_user(self, user_id: int) -> Iterator[bytes]:
        """Return everything about a person as the pieces of one JSON object, in constant memory.

        Secrets and their digests are left out, and so is what events say about others. Files of
        recordings are named, not included.

        Raises:
            NotFoundError: there is no such account.
        """
        return self._exporter.document(user_id)

    def erase_user(self, work: UnitOfWork, user: User | int) -> ErasedUser:
        """End everything about a person when the unit commits; it cannot be undone.

        The account is deleted, and with it sessions, factors, keys, streams and the rows of their
        recordings; live broadcasts end. The person's key is destroyed: personal fields of events
        are gone, in the archive and in copies of the log too, while the events stay. Bills stay,
        without the person. The erasure is an event, and an entry of the ledger.

        Raises:
            NotFoundError: there is no such account.
        """
        account = work.users.lock(user if isinstance(user, int) else user.id)
        records = PersonalRecordRepository(work.session)
        files = tuple(records.list_recording_files(account.id))
        streams = self._delete_streams(work, account)
        logins = (account.username.lower(), account.email.lower())
        work.login_throttle.clear([self._digests.of_login(login) for login in logins])
        self._accounts.delete(work, account)
        records.delete_unlinked(account.id)
        work.subject_keys.drop_snapshots(account.public_id)
        self._events.subjects.erase(work, account.public_id)
        self._record(work, account, streams, files)
        self._forget_profile(work, account.id)
        return ErasedUser(
            user_id=account.id,
            subject_id=account.public_id,
            streams=streams,
            recording_files=files,
        )

    def erase_subject(self, work: UnitOfWork, subject_id: uuid.UUID) -> bool:
        """Destroy the key of a person without an account, and snapshots that may know them.

        Returns:
            False if that was done before.
        """
        work.subject_keys.drop_snapshots(subject_id)
        return self._events.subjects.erase(work, subject_id)

    def ledger(self) -> Iterator[Erasure]:
        """Yield every erasure there was, in order; ``append_ledger`` keeps them in a file.

        Keep it apart from the backups: whoever restores one erases again with ``reapply``.
        """
        after: Erasure | None = None
        while True:
            with self._database.read() as work:
                page = work.subject_keys.list_erased(after=after, limit=_PAGE)
            yield from page
            if len(page) < _PAGE:
                return
            after = page[-1]

    def reapply(self, entries: Iterable[Erasure]) -> int:
        """Erase again what a restore brought back; return how many persons that were.

        Each in a transaction of its own; interrupted, it can be repeated.
        """
        erased = 0
        for entry in entries:
            erased += self._database.run(partial(self._reapply, entry), idempotent=True)
        return erased

    def _reapply(self, entry: Erasure, work: UnitOfWork) -> bool:
        user = work.users.get_by_public_id(entry.subject_id)
        if user is not None:
            self.erase_user(work, user)
            return True
        return self.erase_subject(work, entry.subject_id)

    def _delete_streams(self, work: UnitOfWork, account: User) -> int:
        deleted = 0
        while page := work.streams.list_by_owner(account.id):
            for stream in page:
                self._streams.delete(work, stream)
            deleted += len(page)
        return deleted

    def _record(
        self, work: UnitOfWork, account: User, streams: int, files: tuple[str, ...]
    ) -> None:
        user, subject = str(account.id), account.public_id
        data = {"streams": streams, "recording_files": len(files)}
        self._events.append(work, AGGREGATE, user, "UserErased", data, subject_id=subject)
        # Who deletes the files must find their names, whatever becomes of this process.
        for start in range(0, len(files), FILES_OF_ONE_EVENT):
            left = {"files": files[start : start + FILES_OF_ONE_EVENT]}
            self._events.append(work, AGGREGATE, user, "RecordingFilesLeft", left)

    def _forget_profile(self, work: UnitOfWork, user_id: int) -> None:
        from rootstream_db.cache.keys import USER

        key = self._cache.key(USER, user_id=user_id)
        work.after_commit(lambda: self._cache.invalidate(key), name="forget cached profile")
