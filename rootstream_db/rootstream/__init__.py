"""The composition root: everything the package offers, built lazily from one ``Settings``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import SecretStr

from rootstream_db.clock import Clock, utc_now
from rootstream_db.rootstream.foundation import Foundation
from rootstream_db.rootstream.parts import Part
from rootstream_db.settings import Settings
from rootstream_db.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    from rootstream_db.embedded import EmbeddedServers
    from rootstream_db.security.keyring import KeySource
    from rootstream_db.services.access import AccessManager
    from rootstream_db.services.accounts import AccountManager
    from rootstream_db.services.billing import BillingManager
    from rootstream_db.services.ingest import IngestAuthorizer
    from rootstream_db.services.mfa import MfaManager
    from rootstream_db.services.partitions import PartitionManager
    from rootstream_db.services.privacy import PrivacyManager
    from rootstream_db.services.projections import ActivityFeed, Projections
    from rootstream_db.services.recordings import RecordingManager
    from rootstream_db.services.sessions import SessionManager
    from rootstream_db.services.streams import StreamManager
    from rootstream_db.services.viewers import ViewerManager
    from rootstream_db.services.webhooks import WebhookManager

T = TypeVar("T")

EMBEDDED_DATABASE = "rootstream"
"""Name of the database inside an embedded PostgreSQL."""


class RootStream(Foundation):
    """The data layer of one application process, on the parts of ``Foundation``.

    >>> with RootStream.embedded(folder) as rs:  # doctest: +SKIP
    ...     rs.upgrade_schema()
    ...     with rs.transaction() as work:
    ...         rs.accounts.register(work, username="alice", email="a@example.com", password="…")

    Args:
        settings: where the servers are and how everything behaves.
        clock: the source of the current time; tests give a ``FrozenClock``.
        key_source: returns the master keys, for example from a key management service; default:
            the settings.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock = utc_now,
        key_source: KeySource | None = None,
    ) -> None:
        settings.require_servers()
        super().__init__(settings, clock=clock, key_source=key_source)

    @classmethod
    def from_env(
        cls, *, config_file: str | Path | None = None, clock: Clock = utc_now
    ) -> RootStream:
        """Build from ``ROOTSTREAM_*`` variables and the configuration file.

        Raises:
            ConfigurationError: nothing, or something contradictory, is configured.
        """
        return cls.from_settings(Settings.load(config_file=config_file), clock=clock)

    @classmethod
    def from_settings(cls, settings: Settings, *, clock: Clock = utc_now) -> RootStream:
        """Build on the servers the settings name, or on the embedded ones in the folder they name.

        Raises:
            ConfigurationError: they name neither.
        """
        if settings.database.url is None and settings.embedded.path is not None:
            return cls.embedded(settings.embedded.path, settings=settings, clock=clock)
        return cls(settings, clock=clock)

    @classmethod
    def embedded(
        cls, path: str | Path, *, settings: Settings | None = None, clock: Clock = utc_now
    ) -> RootStream:
        """Start (or join) a real PostgreSQL and Redis in a folder and build on them.

        The servers stop with the last process that uses them.

        Raises:
            EmbeddedServerError: a server's program is missing or does not start.
        """
        from rootstream_db.embedded import start_servers

        base = settings if settings is not None else Settings.load()
        with ExitStack() as starting:
            servers = starting.enter_context(
                start_servers(Path(path), base.embedded, database=EMBEDDED_DATABASE)
            )
            rootstream = cls(_pointed_at(base, servers), clock=clock)
            if base.security.master_keys is None:
                rootstream._embedded_keys = servers.secrets.master_key_file
            rootstream._resources.push(starting.pop_all())
        return rootstream

    @Part
    def accounts(self) -> AccountManager:
        """Accounts: registration, login, verification, reset."""
        from rootstream_db.services.accounts import AccountManager

        return AccountManager(
            self.database,
            self.events,
            self.settings.accounts,
            tokens=self.tokens,
            sessions=self.sessions,
            watch=self.login_monitor,
            on_standing=self._forget_access,
        )

    @Part
    def access(self) -> AccessManager:
        """Access control: roles, grants, API keys, and what they allow."""
        from rootstream_db.services.access import AccessManager, FencedCache

        fence = FencedCache(
            self.cache,
            self.settings.security.peppers(),
            writer=self.tokens.version,
            clock=self.clock,
            max_stale=self.settings.cache.access_ttl,
        )
        return AccessManager(
            self.database,
            self.events,
            cache=self.cache,
            fence=fence,
            settings=self.settings.access,
            tokens=self.tokens,
            sessions=self.sessions,
            privacy=lambda: self.privacy,
            clock=self.clock,
        )

    @Part
    def privacy(self) -> PrivacyManager:
        """What is stored about a person: a copy of it, and its end."""
        from rootstream_db.security.login_digests import LoginDigests
        from rootstream_db.services.privacy import PrivacyManager

        return PrivacyManager(
            self.database,
            self.events,
            accounts=self.accounts,
            streams=self.streams,
            cache=self.cache,
            digests=LoginDigests(self.tokens),
            clock=self.clock,
        )

    @Part
    def mfa(self) -> MfaManager:
        """Second factors: authenticator apps, passkeys, backup codes, trusted devices."""
        from rootstream_db.services.mfa import MfaManager

        return MfaManager(
            self.database,
            self.events,
            self.settings.mfa,
            keyring=self.keyring,
            tokens=self.tokens,
            sessions=self.sessions,
            security=self.security,
        )

    @Part
    def billing(self) -> BillingManager:
        """Billing accounts and metered usage."""
        from rootstream_db.services.billing import BillingManager

        return BillingManager(self.events, clock=self.clock)

    @Part
    def partitions(self) -> PartitionManager:
        """Time partitions: made ahead, dropped behind."""
        from rootstream_db.services.partitions import PartitionManager

        return PartitionManager(self.database, clock=self.clock)

    @Part
    def projections(self) -> Projections:
        """Read models made of events: statistics by day, activity of users, and your own."""
        from rootstream_db.services.projections import (
            ActivityProjection,
            Projections,
            StreamStatsProjection,
        )

        return Projections(
            self.database, self.events, [StreamStatsProjection(), ActivityProjection()]
        )

    @Part
    def activity(self) -> ActivityFeed:
        """What users did lately, as the activity projection has it."""
        from rootstream_db.services.projections import ActivityFeed

        return ActivityFeed(self.database)

    @Part
    def recordings(self) -> RecordingManager:
        """Recordings, described by what their files contain."""
        from rootstream_db.services.recordings import RecordingManager

        return RecordingManager(self.events, self.settings.ingest, clock=self.clock)

    @Part
    def sessions(self) -> SessionManager:
        """Login sessions: opened, validated at every request, ended everywhere at once."""
        from rootstream_db.services.sessions import SessionManager

        return self._closing(
            SessionManager(
                self.database,
                self.events,
                self.tokens,
                bus=self.bus,
                redis=self.settings.redis,
                ttls=self.settings.cache,
                settings=self.settings.sessions,
                clock=self.clock,
            )
        )

    @Part
    def streams(self) -> StreamManager:
        """Streams, their keys and their live leases."""
        from rootstream_db.services.streams import StreamManager

        return StreamManager(
            self.database,
            self.events,
            tokens=self.tokens,
            cache=self.cache,
            bus=self.bus,
            settings=self.settings.streams,
            clock=self.clock,
        )

    @Part
    def viewers(self) -> ViewerManager:
        """Viewers: presence and counters, flushed to PostgreSQL exactly once."""
        from rootstream_db.services.viewers import ViewerManager

        return ViewerManager(
            self.database, self.cache, settings=self.settings.viewers, clock=self.clock
        )

    @Part
    def ingest(self) -> IngestAuthorizer:
        """What media servers call: may this connection publish, play, record?"""
        from rootstream_db.services.ingest import IngestAuthorizer

        return IngestAuthorizer(
            self.database,
            tokens=self.tokens,
            streams=self.streams,
            recordings=self.recordings,
            viewers=self.viewers,
        )

    @Part
    def webhooks(self) -> WebhookManager:
        """Webhooks: other systems are told of events, signed, at least once."""
        from rootstream_db.services.webhooks import WebhookManager

        return WebhookManager(
            self.database,
            self.events,
            settings=self.settings.webhooks,
            clock=self.clock,
            keyring=lambda: self.keyring,
        )

    def transaction(self, *, read_only: bool = False) -> AbstractContextManager[UnitOfWork]:
        """Open a unit of work: leaving the block commits, an exception rolls back."""
        return self.database.transaction(read_only=read_only)

    def run(
        self,
        fn: Callable[[UnitOfWork], T],
        *,
        read_only: bool = False,
        idempotent: bool = False,
    ) -> T:
        """Run ``fn(work)`` in a transaction and again when the database asks for it.

        ``idempotent`` also repeats it after a connection lost during COMMIT; see ``Database.run``.
        """
        return self.database.run(fn, read_only=read_only, idempotent=idempotent)

    def upgrade_schema(self) -> str | None:
        """Bring the schema to the revision this release needs and make partitions ahead.

        Returns:
            The revision reached.
        """
        from rootstream_db import schema

        revision = schema.upgrade(self.settings.database)
        self.partitions.ensure()
        return revision

    def _forget_access(self, work: UnitOfWork, user_id: int) -> None:
        # A function of its own, so that accounts do not need Redis before one is closed.
        self.access.forget(work, user_id)


def _pointed_at(settings: Settings, servers: EmbeddedServers) -> Settings:
    """Return the settings with the addresses and the keys of embedded servers in them."""
    database = settings.database.model_copy(update={"url": SecretStr(servers.database_url)})
    redis = settings.redis.model_copy(update={"url": SecretStr(servers.redis_url)})
    security = settings.security.or_else(
        token_peppers=servers.secrets.token_peppers, master_keys=servers.secrets.master_keys
    )
    archive = settings.events.archive_directory or servers.postgres.path.parent / "event-archive"
    events = settings.events.model_copy(update={"archive_directory": archive})
    return settings.model_copy(
        update={"database": database, "redis": redis, "security": security, "events": events}
    )
