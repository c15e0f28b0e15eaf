"""The stream manager: what owners, media servers and viewers ask of streams."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Unpack

from rootstream_db.clock import Clock, utc_now
from rootstream_db.errors import PermissionDeniedError
from rootstream_db.models import StreamSession
from rootstream_db.services.accounts.rules import check_ip_address
from rootstream_db.services.live_lease import Phase
from rootstream_db.services.streams.board import LiveBoard
from rootstream_db.services.streams.broadcasts import Broadcasts
from rootstream_db.services.streams.catalogue import StreamCatalogue
from rootstream_db.services.streams.lease_keeper import REAP_BATCH, LeaseKeeper, key_digest
from rootstream_db.services.streams.rules import (
    Seen,
    check_owner,
    check_protocol,
    check_seen,
    shown_encoder,
)
from rootstream_db.services.streams.values import (
    Lease,
    LiveStatus,
    Publisher,
    ReapResult,
    lease_of,
    lease_state,
    status_of,
)

if TYPE_CHECKING:
    from rootstream_db.cache import EventBus, RedisCache
    from rootstream_db.database import Database
    from rootstream_db.security.token_mint import TokenMint
    from rootstream_db.services.event_store import EventStore
    from rootstream_db.settings import StreamSettings


class StreamManager(StreamCatalogue):
    """Streams, their keys and their live leases.

    What an owner does (create, update, delete, end, issue_key, revoke_key) happens in the caller's
    unit of work. What media servers and cron call (start, heartbeat, disconnect, stop, reap) is a
    transaction of its own, run again when the database asks for it.

    **Time** is the injected clock's, not the database's, so that everything can be tested without
    waiting. Clocks of several nodes differ; what that can do is bounded. Nobody is ever live twice:
    the row lock and the epoch do not depend on time. A node whose clock is ahead by more than
    ``lease_ttl`` minus the heartbeat interval may interrupt a publisher that is alive, whose next
    heartbeat takes the lease back. To end its session the clock must be ahead by
    ``lease_ttl + reconnect_grace`` minus the interval. ``clock_skew`` measures.
    """

    def __init__(
        self,
        database: Database,
        events: EventStore,
        *,
        tokens: TokenMint,
        cache: RedisCache,
        bus: EventBus,
        settings: StreamSettings,
        clock: Clock = utc_now,
    ) -> None:
        self._database = database
        self._events = events
        self._tokens = tokens
        self._clock = clock
        self._board = LiveBoard(cache, bus)
        self._broadcasts = Broadcasts(
            events, self._board, ttl=settings.lease_ttl, grace=settings.reconnect_grace
        )
        self._keeper = LeaseKeeper(self._broadcasts, self._board, ttl=settings.lease_ttl)

    # What media servers call

    def start(
        self,
        key: str,
        *,
        node: str,
        connection_id: str | None = None,
        protocol: str = "rtmp",
        encoder: str | None = None,
        ip_address: str | None = None,
    ) -> Lease:
        """Take the lease: one of any number of contenders gets it.

        Within the grace of an interrupted session the same session goes on (``resumed``), whichever
        of the stream's keys is used. The same connection asking again gets the lease it has.

        Args:
            key: the stream key, as its owner was given it.
            node: the media server.
            connection_id: what the media server calls the connection; a random one if not given.
            protocol: how the publisher speaks.
            encoder: the program that publishes, as far as it said.
            ip_address: where it publishes from; kept, sealed, with the event alone.

        Raises:
            PermissionDeniedError: the key is unknown, revoked, expired or not valid yet, or the
                account of the stream's owner is closed.
            StreamAlreadyLiveError: somebody else holds the lease.
        """
        digest = key_digest(self._tokens, key)
        # Chosen before the transaction: its re-run after a lost answer must be the same connection.
        connection = connection_id if connection_id is not None else uuid.uuid4().hex
        publisher = Publisher(
            owner=check_owner(node, connection),
            node=node.strip(),
            protocol=check_protocol(protocol),
            encoder=shown_encoder(encoder),
            ip_address=check_ip_address(ip_address),
        )
        return self._database.run(
            lambda work: self._keeper.start(work, digest, publisher), idempotent=True
        )

    def heartbeat(self, lease: Lease, **seen: Unpack[Seen]) -> Lease:
        """Renew the lease and record what the media server sees; what is left out stays.

        ``bytes_in`` counts the bytes of this connection since it began, as media servers report
        them; the session's total over all its connections is kept by the manager.

        Returns:
            The lease with its new expiry.

        Raises:
            StaleLeaseError: somebody else took over, the publisher disconnected, the grace ran
                out, or the session ended. A lease that expired within the grace is renewed.
            ValidationError: a measure is negative or not a number.
        """
        columns = check_seen(seen)
        renewed = self._database.run(
            lambda work: self._keeper.renew(work, lease, columns), idempotent=True
        )
        # A transaction of its own: what has an event is committed to the disk.
        return renewed or self._database.run(
            lambda work: self._keeper.retake(work, lease, columns), idempotent=True
        )

    def disconnect(self, lease: Lease, *, bytes_in: int | None = None) -> None:
        """Give the lease up because the connection closed; the session waits for the grace.

        Without a grace the session ends. Doing it twice changes nothing.

        Raises:
            StaleLeaseError: a newer epoch holds the lease.
        """
        columns = check_seen({"bytes_in": bytes_in})
        self._database.run(
            lambda work: self._keeper.disconnect(work, lease, columns), idempotent=True
        )

    def stop(self, lease: Lease, *, bytes_in: int | None = None) -> StreamSession:
        """End the session. Doing it twice changes nothing.

        Returns:
            The session with its totals.

        Raises:
            StaleLeaseError: a newer epoch holds the lease.
        """
        columns = check_seen({"bytes_in": bytes_in})
        return self._database.run(
            lambda work: self._keeper.stop(work, lease, columns), idempotent=True
        )

    def find_lease(self, key: str, *, node: str, connection_id: str) -> Lease | None:
        """Return the lease that a connection holds, for callers that remember nothing themselves.

        A lease that lapsed within the grace is found too: its holder may still renew it.
        """
        try:
            digest = key_digest(self._tokens, key)
        except PermissionDeniedError:
            return None
        owner = check_owner(node, connection_id)
        with self._database.read() as work:
            found = work.stream_keys.get_by_hash(digest)
            live = None if found is None else work.stream_live.get(found.stream_id)
            if live is None or live.lease_owner != owner:
                return None
            held = lease_state(live).phase(work.now) in {Phase.HELD, Phase.LAPSED}
            return lease_of(live) if held else None

    # What cron calls

    def reap(self) -> ReapResult:
        """Interrupt the streams whose lease ran out, and end those whose grace did.

        Any number of reapers may run at once; they share the work.
        """
        total = ReapResult(0, 0)
        while True:
            batch = self._database.run(self._keeper.reap_batch, idempotent=True)
            total += batch
            if batch.entered_grace + batch.ended < REAP_BATCH:
                return total

    def clock_skew(self) -> timedelta:
        """Return how far this node's clock is ahead of the database's, to within a round trip."""
        before = self._clock()
        with self._database.read() as work:
            there = work.stream_live.database_time()
        return before + (self._clock() - before) / 2 - there

    # What viewers ask

    def live_status(self, stream_id: int) -> LiveStatus | None:
        """Return the stream's live state from the cache, else from PostgreSQL; None if unknown."""
        status = self._board.read(stream_id, lambda: self._load_status(stream_id))
        return None if status is None else status.at(self._clock())

    def list_live(self) -> list[LiveStatus]:
        """Return the streams that are live or reconnecting, longest first."""
        with self._database.read() as work:
            statuses = [
                status_of(live, started_at=session.started_at, now=work.now)
                for live, session in work.stream_live.list_live()
            ]
        return [status for status in statuses if not status.is_offline]

    def _load_status(self, stream_id: int) -> LiveStatus | None:
        with self._database.read() as work:
            found = work.stream_live.get_with_session(stream_id)
            if found is None:
                return None
            live, session = found
            started_at = None if session is None else session.started_at
            return status_of(live, started_at=started_at, now=work.now)
