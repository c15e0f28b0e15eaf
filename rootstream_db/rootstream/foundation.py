"""What everything else stands on: engines, keys, the event log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rootstream_db.clock import Clock
from rootstream_db.database import Database
from rootstream_db.rootstream.parts import Part, Parts
from rootstream_db.settings import Settings

if TYPE_CHECKING:
    from rootstream_db.cache import EventBus, RedisCache
    from rootstream_db.security.key_file import MasterKeyFile
    from rootstream_db.security.keyring import KeyRing, KeySource
    from rootstream_db.security.token_mint import TokenMint
    from rootstream_db.services.event_archive import EventArchiver
    from rootstream_db.services.event_store import EventStore
    from rootstream_db.services.key_rotation import KeyRotation
    from rootstream_db.services.rate_limits import RateLimiter
    from rootstream_db.services.security_events import LoginMonitor, SecurityMonitor
    from rootstream_db.services.subject_keys import SubjectKeys


class Foundation(Parts):
    """The parts that everything else needs: engines, keys, the event log."""

    def __init__(self, settings: Settings, *, clock: Clock, key_source: KeySource | None) -> None:
        super().__init__()
        self.settings = settings
        self.clock = clock
        self._key_source = key_source
        self._embedded_keys: Path | None = None

    @Part
    def database(self) -> Database:
        """PostgreSQL: pools, transactions, retries."""
        return self._closing(Database(self.settings.database, clock=self.clock))

    @Part
    def cache(self) -> RedisCache:
        """Redis as a cache: values, TTLs, scripts, read-through."""
        from rootstream_db.cache import RedisCache

        return self._closing(RedisCache(self.settings.redis, ttls=self.settings.cache))

    @Part
    def bus(self) -> EventBus:
        """Redis as a messenger: publish and subscribe."""
        from rootstream_db.cache import EventBus

        return self._closing(EventBus(self.settings.redis))

    @Part
    def keyring(self) -> KeyRing:
        """Master keys: what seals secrets before they are stored, and opens them."""
        from rootstream_db.security.keyring import KeyRing

        security = self.settings.security
        return KeyRing(
            self._key_source or self.key_file or security.masters(), writer=security.sealing_key
        )

    @property
    def key_file(self) -> MasterKeyFile | None:
        """The file that the master keys come from; None if they come from elsewhere."""
        from rootstream_db.security.key_file import MasterKeyFile

        path = self.settings.file_of("security.master_keys") or self._embedded_keys
        return None if path is None or self._key_source is not None else MasterKeyFile(path)

    @Part
    def key_rotation(self) -> KeyRotation:
        """Rotation of the master keys: what is sealed is sealed anew, while it is in use."""
        from rootstream_db.services.key_rotation import KeyRotation

        return KeyRotation(self.database, lambda: self.keyring, self.events, clock=self.clock)

    @Part
    def subjects(self) -> SubjectKeys:
        """Keys of persons: what opens the personal fields of events until they are erased."""
        from rootstream_db.services.subject_keys import SubjectKeys

        bus = self.bus if self.settings.redis.url is not None else None
        return SubjectKeys(self.database, lambda: self.keyring, bus=bus)

    @Part
    def events(self) -> EventStore:
        """The event log: append, read, replay."""
        from rootstream_db.services.event_archive import ArchiveReader
        from rootstream_db.services.event_store import EventStore, Wakeup
        from rootstream_db.services.security_events import ChangeMonitor

        wakeup = Wakeup(self.bus) if self.settings.redis.url is not None else None
        return EventStore(
            self.database,
            clock=self.clock,
            wakeup=wakeup,
            subjects=self.subjects,
            on_append=ChangeMonitor(self.security).notice,
            archive=ArchiveReader(self.settings.events.archive_directory),
        )

    @Part
    def event_archive(self) -> EventArchiver:
        """Old events: moved out of the database into files."""
        from rootstream_db.services.event_archive import EventArchiver

        return EventArchiver(self.database, self.settings.events, clock=self.clock)

    @Part
    def tokens(self) -> TokenMint:
        """The mint of sessions, keys and one-time tokens, under the peppers of the settings."""
        from rootstream_db.security.token_mint import TokenMint

        security = self.settings.security
        return TokenMint(security.peppers(), writes=security.issuing_pepper)

    @Part
    def limits(self) -> RateLimiter:
        """Rate limits, counted in Redis for all processes together."""
        from rootstream_db.services.rate_limits import RateLimiter

        return RateLimiter(self.cache, clock=self.clock)

    @Part
    def security(self) -> SecurityMonitor:
        """Security events: recorded beside everything else, listed by risk."""
        from rootstream_db.services.security_events import SecurityMonitor

        return SecurityMonitor(self.database)

    @Part
    def login_monitor(self) -> LoginMonitor:
        """What is made of logins: attacks noticed, networks kept out, places compared."""
        from rootstream_db.security.login_digests import LoginDigests
        from rootstream_db.services.security_events import LoginMonitor

        return LoginMonitor(
            self.security, self.limits, LoginDigests(self.tokens), self.settings.detection
        )
