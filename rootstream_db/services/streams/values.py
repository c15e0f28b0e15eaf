"""What the stream manager hands out: values that outlive their transaction."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from rootstream_db.models import StreamLive
from rootstream_db.services.live_lease import LeaseState, Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Publisher:
    """A connection to a media server that asks to publish."""

    owner: str
    node: str
    protocol: str = "rtmp"
    encoder: str | None = None
    ip_address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to publish a stream; every later call about it must present it.

    ``epoch`` is the fencing token: it grows with every new holder, and an older one is refused.
    """

    stream_id: int
    stream_session_id: int
    epoch: int
    owner: str
    expires_at: datetime
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class ReapResult:
    """How many streams one run of the reaper found silent, and how many sessions it ended."""

    entered_grace: int
    ended: int

    def __add__(self, other: ReapResult) -> ReapResult:
        return ReapResult(self.entered_grace + other.entered_grace, self.ended + other.ended)


class LiveState(StrEnum):
    """What a viewer sees of a stream."""

    LIVE = "live"
    RECONNECTING = "reconnecting"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveStatus:
    """A stream's live state at the moment ``as_of``.

    The times of the lease are part of it, so that a copy that nobody refreshes turns from live to
    reconnecting to offline by itself.
    """

    stream_id: int
    as_of: datetime
    epoch: int = 0
    stream_session_id: int | None = None
    started_at: datetime | None = None
    lease_expires_at: datetime | None = None
    grace_until: datetime | None = None
    node: str | None = None
    viewer_count: int = 0
    bitrate_kbps: int | None = None
    fps: float | None = None
    width: int | None = None
    height: int | None = None

    @property
    def state(self) -> LiveState:
        """What a viewer sees at ``as_of``."""
        lease = LeaseState(
            epoch=self.epoch,
            expires_at=self.lease_expires_at,
            grace_until=self.grace_until,
            session_id=self.stream_session_id,
        )
        match lease.phase(self.as_of):
            case Phase.HELD:
                return LiveState.LIVE
            case Phase.LAPSED | Phase.GRACE:
                return LiveState.RECONNECTING
        return LiveState.OFFLINE

    @property
    def is_offline(self) -> bool:
        """Whether nobody publishes and nobody is waited for at ``as_of``."""
        return self.state is LiveState.OFFLINE

    @property
    def is_live(self) -> bool:
        """Whether a publisher holds the lease at ``as_of``."""
        return self.state is LiveState.LIVE

    def at(self, now: datetime) -> LiveStatus:
        """Return the status as it looks at ``now`` if nothing else happened."""
        return replace(self, as_of=now)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-ready data, with ``state`` for readers that do not compute it."""
        plain = {field.name: _plain(getattr(self, field.name)) for field in fields(self)}
        return {**plain, "state": self.state.value}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LiveStatus:
        """Rebuild a status from ``as_dict``'s data."""
        values = {name: value for name, value in data.items() if name != "state"}
        for name in ("as_of", "started_at", "lease_expires_at", "grace_until"):
            values[name] = None if values[name] is None else datetime.fromisoformat(values[name])
        return cls(**values)


def status_of(live: StreamLive, *, started_at: datetime | None, now: datetime) -> LiveStatus:
    """Return the status that a row of live state stands for."""
    return LiveStatus(
        stream_id=live.stream_id,
        as_of=now,
        epoch=live.lease_epoch,
        stream_session_id=live.stream_session_id,
        started_at=started_at,
        lease_expires_at=live.lease_expires_at,
        grace_until=live.grace_until,
        node=live.node,
        viewer_count=live.viewer_count,
        bitrate_kbps=live.bitrate_kbps,
        fps=live.fps,
        width=live.width,
        height=live.height,
    )


def lease_state(live: StreamLive) -> LeaseState:
    """Return the part of a row of live state that decisions are made of."""
    return LeaseState(
        epoch=live.lease_epoch,
        owner=live.lease_owner,
        expires_at=live.lease_expires_at,
        grace_until=live.grace_until,
        session_id=live.stream_session_id,
    )


def lease_of(live: StreamLive, *, resumed: bool = False) -> Lease:
    """Return the lease that a row of live state grants to its owner."""
    if live.stream_session_id is None or live.lease_owner is None or live.lease_expires_at is None:
        raise ValueError(f"nobody holds the lease of stream {live.stream_id}")
    return Lease(
        stream_id=live.stream_id,
        stream_session_id=live.stream_session_id,
        epoch=live.lease_epoch,
        owner=live.lease_owner,
        expires_at=live.lease_expires_at,
        resumed=resumed,
    )


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value
