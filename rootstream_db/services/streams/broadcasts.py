"""One broadcast from its start to its end: the rows it changes and the events it leaves.

The rows and the event of one step are one transaction, the caller's. What is decided, and why, is
in ``live_lease``; here it is done.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rootstream_db.models import EndReason, Stream, StreamLive, StreamSession
from rootstream_db.services.billing import meter_broadcast
from rootstream_db.services.live_lease import LeaseState, last_alive, terms
from rootstream_db.services.streams.board import LiveBoard
from rootstream_db.services.streams.values import (
    Lease,
    LiveStatus,
    Publisher,
    lease_of,
    lease_state,
    status_of,
)
from rootstream_db.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    from rootstream_db.services.event_store import EventStore

CONNECTION_CLOSED = "connection_closed"
LEASE_EXPIRED = "lease_expired"


class Broadcast:
    """One stream in one unit of work: its locked live row and its open session, if there is one."""

    def __init__(self, work: UnitOfWork, stream: Stream, live: StreamLive) -> None:
        self.work = work
        self.stream = stream
        self.live = live

    @property
    def state(self) -> LeaseState:
        """What decisions are made of."""
        return lease_state(self.live)

    @cached_property
    def session(self) -> StreamSession:
        """The open session, locked."""
        if self.live.stream_session_id is None:
            raise ValueError(f"stream {self.live.stream_id} has no open session")
        return self.work.stream_sessions.lock_one(self.live.stream_session_id)

    def lease(self, *, resumed: bool = False) -> Lease:
        """Return the lease that the row grants to its owner."""
        return lease_of(self.live, resumed=resumed)

    def status(self) -> LiveStatus:
        """Return what viewers see."""
        is_open = self.live.stream_session_id is not None
        started_at = self.session.started_at if is_open else None
        return status_of(self.live, started_at=started_at, now=self.work.now)


class Broadcasts:
    """Opens, resumes, interrupts and closes stream sessions."""

    def __init__(
        self, events: EventStore, board: LiveBoard, *, ttl: timedelta, grace: timedelta
    ) -> None:
        self._events = events
        self._board = board
        self._ttl = ttl
        self._grace = grace

    def grace_of(self, stream: Stream) -> timedelta:
        """Return how long the stream waits for its publisher: its own choice, or the setting."""
        if stream.reconnect_grace_seconds is None:
            return self._grace
        return timedelta(seconds=stream.reconnect_grace_seconds)

    def open(self, broadcast: Broadcast, publisher: Publisher, *, key_id: int) -> None:
        """Open a session and grant its first lease."""
        work, live = broadcast.work, broadcast.live
        broadcast.session = work.stream_sessions.add(
            StreamSession(
                stream_id=live.stream_id,
                stream_key_id=key_id,
                started_at=work.now,
                node=publisher.node,
                protocol=publisher.protocol,
                encoder=publisher.encoder,
            )
        )
        live.stream_session_id = broadcast.session.id
        live.viewer_count = 0
        self._grant(broadcast, publisher, key_id=key_id)
        facts = {"protocol": publisher.protocol, "encoder": publisher.encoder}
        self._publish(broadcast, "StreamStarted", facts, ip_address=publisher.ip_address)

    def resume(self, broadcast: Broadcast, publisher: Publisher, *, key_id: int) -> None:
        """Go on with the open session under the next epoch."""
        session = broadcast.session
        if broadcast.live.is_live:
            # The reaper has not come by; every resumption follows an interruption all the same.
            self.interrupt(broadcast, reason=LEASE_EXPIRED)
        _settle_connection(broadcast.live, session)
        session.reconnects += 1
        session.node = publisher.node
        session.encoder = publisher.encoder or session.encoder
        self._grant(broadcast, publisher, key_id=key_id)
        facts = {"reconnects": session.reconnects}
        self._publish(broadcast, "StreamResumed", facts, ip_address=publisher.ip_address)

    def retake(self, broadcast: Broadcast) -> None:
        """Give a lease that lapsed back to its holder."""
        self._set_terms(broadcast)
        if broadcast.live.is_live:
            # Nobody was told that it lapsed: a renewal like any other.
            self._board.show(broadcast.work, broadcast.status())
            return
        broadcast.live.is_live = True
        self._publish(broadcast, "StreamResumed", {"reconnects": broadcast.session.reconnects})

    def interrupt(self, broadcast: Broadcast, *, reason: str) -> None:
        """Announce that the publisher is gone and may come back until the grace is over."""
        work, live = broadcast.work, broadcast.live
        live.is_live = False
        if reason == CONNECTION_CLOSED:
            live.lease_owner = live.lease_expires_at = None
            live.alive_at = work.now
            live.grace_until = work.now + self.grace_of(broadcast.stream)
        facts = {"reason": reason, "resumable_until": _iso(live.grace_until)}
        self._publish(broadcast, "StreamDisconnected", facts)

    def close(self, broadcast: Broadcast, reason: EndReason) -> StreamSession:
        """End the open session, with its totals in the event and in the owner's metered usage."""
        work, live, session = broadcast.work, broadcast.live, broadcast.session
        session.ended_at = last_alive(
            broadcast.state, started_at=session.started_at, alive_at=live.alive_at, now=work.now
        )
        session.end_reason = reason
        _settle_connection(live, session)
        facts = {"stream_key_id": live.stream_key_id, **_totals(session)}
        _clear(live)
        meter_broadcast(work, session, owner_id=broadcast.stream.owner_id)
        self._publish(broadcast, "StreamEnded", facts)
        return session

    def _grant(self, broadcast: Broadcast, publisher: Publisher, *, key_id: int) -> None:
        live = broadcast.live
        live.is_live = True
        live.lease_owner = publisher.owner
        live.lease_epoch += 1
        live.node = publisher.node
        live.stream_key_id = key_id
        _forget_picture(live)
        self._set_terms(broadcast)

    def _set_terms(self, broadcast: Broadcast) -> None:
        live, now = broadcast.live, broadcast.work.now
        granted = terms(now, ttl=self._ttl, grace=self.grace_of(broadcast.stream))
        live.alive_at = now
        live.lease_expires_at, live.grace_until = granted.expires_at, granted.grace_until

    def _publish(
        self,
        broadcast: Broadcast,
        event_type: str,
        facts: dict[str, Any],
        *,
        ip_address: str | None = None,
    ) -> None:
        stream, live = broadcast.stream, broadcast.live
        self._events.append(
            broadcast.work,
            "Stream",
            str(stream.id),
            event_type,
            {
                "stream_session_id": broadcast.session.id,
                "epoch": live.lease_epoch,
                "node": broadcast.session.node,
                "owner": live.lease_owner,
                "stream_key_id": live.stream_key_id,
                **facts,
            },
            user_id=stream.owner_id,
            personal=None if ip_address is None else {"ip_address": ip_address},
        )
        self._board.announce(broadcast.work, broadcast.status(), event_type)


def _settle_connection(live: StreamLive, session: StreamSession) -> None:
    """Add what the connection sent to the session; the next connection counts from 0 again."""
    session.bytes_in += live.bytes_in
    live.bytes_in = 0
    if live.width is not None and live.height is not None:
        session.width, session.height = live.width, live.height


def _clear(live: StreamLive) -> None:
    """Take the stream off the air; the epoch stays, so that old leases stay stale for ever."""
    live.is_live = False
    live.lease_owner = live.lease_expires_at = live.grace_until = live.alive_at = None
    live.stream_session_id = live.stream_key_id = live.node = None
    live.viewer_count = 0
    _forget_picture(live)


def _forget_picture(live: StreamLive) -> None:
    live.bitrate_kbps = live.fps = live.width = live.height = None


def _totals(session: StreamSession) -> dict[str, Any]:
    ended_at = session.ended_at or session.started_at
    return {
        "reason": session.end_reason,
        "started_at": _iso(session.started_at),
        "ended_at": _iso(ended_at),
        "duration_seconds": (ended_at - session.started_at).total_seconds(),
        "reconnects": session.reconnects,
        "bytes_in": session.bytes_in,
        "bytes_out": session.bytes_out,
        "views": session.views,
        "watch_seconds": session.watch_seconds,
        "peak_viewers": session.peak_viewers,
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
