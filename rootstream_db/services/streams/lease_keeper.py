"""What happens inside the transaction of each call about a lease: lock, decide, do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from rootstream_db.errors import (
    InvalidTokenError,
    PermissionDeniedError,
    StaleLeaseError,
    StreamAlreadyLiveError,
)
from rootstream_db.models import EndReason, Stream, StreamKey, StreamLive, StreamSession
from rootstream_db.security.token_mint import TokenMint
from rootstream_db.security.tokens import TokenKind
from rootstream_db.services.live_lease import (
    LeaveAction,
    LeaveDecision,
    Phase,
    ReapAction,
    StartAction,
    decide_disconnect,
    decide_heartbeat,
    decide_reap,
    decide_start,
    decide_stop,
)
from rootstream_db.services.streams.board import LiveBoard
from rootstream_db.services.streams.broadcasts import (
    CONNECTION_CLOSED,
    LEASE_EXPIRED,
    Broadcast,
    Broadcasts,
)
from rootstream_db.services.streams.values import (
    Lease,
    Publisher,
    ReapResult,
    lease_of,
    status_of,
)
from rootstream_db.unit_of_work import UnitOfWork

REAP_BATCH: Final = 50
"""Streams that one transaction of the reaper settles: their rows stay locked until it commits."""


class LeaseKeeper:
    """Carries out what ``live_lease`` decides, on rows locked in the caller's transaction."""

    def __init__(self, broadcasts: Broadcasts, board: LiveBoard, *, ttl: timedelta) -> None:
        self._broadcasts = broadcasts
        self._board = board
        self._ttl = ttl

    def start(self, work: UnitOfWork, key_hash: bytes, publisher: Publisher) -> Lease:
        """Give the publisher the lease of the key's stream, or refuse."""
        key, stream = _admitted(work, key_hash)
        broadcast = _lock(work, stream)
        decision = decide_start(broadcast.state, owner=publisher.owner, now=work.now)
        if decision.action is StartAction.REFUSE:
            raise StreamAlreadyLiveError(stream.id, owner=broadcast.live.lease_owner)
        # Asked again under the row's lock: revoke_key takes the same lock before it revokes.
        if not work.stream_keys.record_use(key.id, work.now):
            raise _denied("the stream key was revoked", stream)
        return self._carry_out(decision.action, broadcast, publisher, key_id=key.id)

    def renew(self, work: UnitOfWork, lease: Lease, seen: dict[str, Any]) -> Lease | None:
        """Renew the lease in one statement; None if there is more to it, see ``retake``."""
        expires_at = work.now + self._ttl
        renewed = work.stream_live.renew(
            lease.stream_id, epoch=lease.epoch, now=work.now, expires_at=expires_at, seen=seen
        )
        if renewed is None:
            return None
        live, started_at = renewed
        self._board.show(work, status_of(live, started_at=started_at, now=work.now))
        return lease_of(live, resumed=lease.resumed)

    def retake(self, work: UnitOfWork, lease: Lease, seen: dict[str, Any]) -> Lease:
        """Renew a lease that was announced as lapsed, or say why it is over."""
        broadcast = _lock_leased(work, lease)
        verdict = decide_heartbeat(broadcast.state, epoch=lease.epoch, now=work.now)
        if not verdict.accepted:
            raise _stale(broadcast.live, lease, verdict.reason)
        _record(broadcast.live, seen)
        self._broadcasts.retake(broadcast)
        return broadcast.lease(resumed=lease.resumed)

    def disconnect(self, work: UnitOfWork, lease: Lease, seen: dict[str, Any]) -> None:
        """Give the lease up and wait for the publisher, or end the session."""
        broadcast = _lock_leased(work, lease)
        grace = self._broadcasts.grace_of(broadcast.stream)
        decision = decide_disconnect(broadcast.state, epoch=lease.epoch, grace=grace, now=work.now)
        _check(decision, broadcast, lease)
        if decision.action is LeaveAction.WAIT:
            _record(broadcast.live, seen)
            self._broadcasts.interrupt(broadcast, reason=CONNECTION_CLOSED)
        elif decision.action is LeaveAction.END:
            self._end(broadcast, seen, EndReason.GRACE_EXPIRED)

    def stop(self, work: UnitOfWork, lease: Lease, seen: dict[str, Any]) -> StreamSession:
        """End the session, or return it if it has ended."""
        broadcast = _lock_leased(work, lease)
        decision = decide_stop(broadcast.state, epoch=lease.epoch, now=work.now)
        _check(decision, broadcast, lease)
        if decision.action is LeaveAction.END:
            self._end(broadcast, seen, EndReason.STOPPED)
        return work.stream_sessions.get_one(lease.stream_session_id)

    def reap_batch(self, work: UnitOfWork) -> ReapResult:
        """Settle up to ``REAP_BATCH`` overdue streams that no other reaper is settling."""
        overdue = work.stream_live.lock_overdue(work.now, limit=REAP_BATCH)
        streams = {row.id: row for row in work.streams.list_by_ids([o.stream_id for o in overdue])}
        interrupted = ended = 0
        for live in overdue:
            broadcast = Broadcast(work, streams[live.stream_id], live)
            match decide_reap(broadcast.state, announced_live=live.is_live, now=work.now):
                case ReapAction.ANNOUNCE:
                    self._broadcasts.interrupt(broadcast, reason=LEASE_EXPIRED)
                    interrupted += 1
                case ReapAction.END:
                    self._broadcasts.close(broadcast, EndReason.GRACE_EXPIRED)
                    ended += 1
        return ReapResult(interrupted, ended)

    def _carry_out(
        self, action: StartAction, broadcast: Broadcast, publisher: Publisher, *, key_id: int
    ) -> Lease:
        if action is StartAction.RESUME:
            self._broadcasts.resume(broadcast, publisher, key_id=key_id)
            return broadcast.lease(resumed=True)
        if action is StartAction.SUPERSEDE:
            self._broadcasts.close(broadcast, EndReason.SUPERSEDED)
        if action is not StartAction.REPEAT:
            self._broadcasts.open(broadcast, publisher, key_id=key_id)
        return broadcast.lease()

    def _end(self, broadcast: Broadcast, seen: dict[str, Any], reason: EndReason) -> None:
        if broadcast.state.phase(broadcast.work.now) in {Phase.HELD, Phase.LAPSED}:
            # Whoever says goodbye is alive.
            _record(broadcast.live, seen)
            broadcast.live.alive_at = broadcast.work.now
        else:
            reason = EndReason.GRACE_EXPIRED if _is_over(broadcast) else reason
        self._broadcasts.close(broadcast, reason)


def _admitted(work: UnitOfWork, key_hash: bytes) -> tuple[StreamKey, Stream]:
    found = work.stream_keys.get_with_stream(key_hash)
    if found is None:
        raise unknown_key()
    key, stream, owner_is_active = found
    refusal = key.refusal(work.now)
    if refusal is None and not owner_is_active:
        refusal = "the account of the stream's owner is deactivated"
    if refusal is not None:
        raise _denied(refusal, stream)
    return key, stream


def key_digest(tokens: TokenMint, key: str) -> bytes:
    """Return what a stream key is stored under; garbage is refused without a look-up.

    Raises:
        PermissionDeniedError: it cannot be a stream key.
    """
    try:
        return tokens.digest(key, TokenKind.STREAM_KEY)
    except InvalidTokenError as error:
        raise unknown_key() from error


def unknown_key() -> PermissionDeniedError:
    """Return the refusal of a key that was never issued, or whose stream is gone."""
    return PermissionDeniedError("unknown stream key")


def _lock(work: UnitOfWork, stream: Stream) -> Broadcast:
    live = work.stream_live.lock(stream.id)
    if live is None:
        raise unknown_key()
    return Broadcast(work, stream, live)


def _lock_leased(work: UnitOfWork, lease: Lease) -> Broadcast:
    live = work.stream_live.lock(lease.stream_id)
    if live is None:
        raise StaleLeaseError(
            lease.stream_id, epoch=lease.epoch, current_epoch=0, reason="the stream was deleted"
        )
    return Broadcast(work, work.streams.get_one(lease.stream_id), live)


def _check(decision: LeaveDecision, broadcast: Broadcast, lease: Lease) -> None:
    if decision.action is LeaveAction.REFUSE:
        raise _stale(broadcast.live, lease, decision.reason)


def _record(live: StreamLive, seen: dict[str, Any]) -> None:
    for name, value in seen.items():
        setattr(live, name, max(live.bytes_in, value) if name == "bytes_in" else value)


def _is_over(broadcast: Broadcast) -> bool:
    return broadcast.state.phase(broadcast.work.now) is Phase.OVER


def _denied(reason: str, stream: Stream) -> PermissionDeniedError:
    return PermissionDeniedError(reason, stream_id=stream.id)


def _stale(live: StreamLive, lease: Lease, reason: str) -> StaleLeaseError:
    return StaleLeaseError(
        lease.stream_id, epoch=lease.epoch, current_epoch=live.lease_epoch, reason=reason
    )
