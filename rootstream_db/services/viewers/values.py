"""What goes into viewer counting and what comes out: plain values, checked and parsed here."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

from rootstream_db.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LARGEST_ID: Final = 2**63 - 1
LONGEST_VIEWER: Final = 200
MOST_WATCH_SECONDS: Final = 24 * 3600
"""One heartbeat cannot report more than a day."""
MOST_BYTES: Final = 2**43
"""One heartbeat cannot report more than 8 TiB; Lua's numbers stay exact up to 1024 of those."""

_SEVEN_DOUBLES: Final = struct.Struct(">7d")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Heartbeat(NamedTuple):
    """One sign of life of one viewer.

    Attributes:
        stream_id: what is watched.
        viewer: who watches; any text that is the same in every heartbeat of a visit.
        user_id: the account, if the viewer is logged in.
        watch_seconds: how long was watched since the last heartbeat, if the player knows; without
            it the time since the last heartbeat counts.
        bytes_out: what was sent since the last heartbeat.
    """

    stream_id: int
    viewer: str
    user_id: int | None = None
    watch_seconds: int | None = None
    bytes_out: int = 0

    def check(self) -> None:
        """Refuse what cannot be counted.

        Raises:
            ValidationError: a value is out of range; ``field`` names it.
        """
        stream_id, viewer, user_id, watch_seconds, bytes_out = self
        if not 0 < stream_id <= LARGEST_ID:
            raise ValidationError(f"{stream_id} is no stream id", field="stream_id")
        if not 0 < len(viewer) <= LONGEST_VIEWER:
            raise ValidationError("a viewer is 1 to 200 characters", field="viewer")
        if not viewer.isascii() and not _is_unicode(viewer):
            raise ValidationError("a viewer is not valid Unicode", field="viewer")
        if user_id is not None and not 0 < user_id <= LARGEST_ID:
            raise ValidationError(f"{user_id} is no user id", field="user_id")
        if watch_seconds is not None and not 0 <= watch_seconds <= MOST_WATCH_SECONDS:
            raise ValidationError("watch_seconds is 0 to 86400", field="watch_seconds")
        if not 0 <= bytes_out <= MOST_BYTES:
            raise ValidationError("bytes_out is 0 to 8 TiB", field="bytes_out")


@dataclass(frozen=True, slots=True)
class Visit:
    """One visit that has ended."""

    stream_id: int
    viewer_bytes: bytes
    started_at: datetime
    ended_at: datetime
    watch_seconds: int
    bytes_out: int
    user_id: int | None

    @classmethod
    def parse(cls, line: bytes) -> Visit:
        """Read a line of the list of ended visits, as the Lua scripts write it."""
        numbers = line.split(b" ", 6)
        stream_id, started, ended, watched, sent, user = (int(n or 0) for n in numbers[:6])
        return cls(
            stream_id=stream_id,
            viewer_bytes=numbers[6],
            started_at=moment(started),
            ended_at=moment(ended),
            watch_seconds=watched,
            bytes_out=sent,
            user_id=user or None,
        )


@dataclass(slots=True)
class Delta:
    """What one flush adds to one stream."""

    heartbeats: int = 0
    views: int = 0
    watch_seconds: int = 0
    bytes_out: int = 0
    peak: int = 0
    peak_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class FlushResult:
    """What a flush moved to PostgreSQL.

    Attributes:
        flush_ids: the flushes carried out, leftovers of other processes included.
        streams: streams with something to add.
        heartbeats: their heartbeats.
        views: visits that began.
        watch_seconds: time watched.
        bytes_out: bytes sent.
        visits: visits that ended, now rows of their own.
        repeated: parts found to be in PostgreSQL already, and so not added again.
        unknown_streams: streams that do not exist (any more); what they had is dropped.
        seconds: how long it all took.
    """

    flush_ids: tuple[UUID, ...] = ()
    streams: int = 0
    heartbeats: int = 0
    views: int = 0
    watch_seconds: int = 0
    bytes_out: int = 0
    visits: int = 0
    repeated: int = 0
    unknown_streams: int = 0
    seconds: float = 0.0


def parse_deltas(fields: Mapping[bytes, bytes]) -> dict[int, Delta]:
    """Read the hash of increments as the Lua scripts write it; its id is left out."""
    return {int(stream): _delta(packed) for stream, packed in fields.items() if stream != b"id"}


def batches(stream_ids: Iterable[int], size: int) -> list[list[int]]:
    """Split the streams of a flush; the same streams and size always give the same batches.

    Whoever goes on with a flush that another process began must find its batches again, because
    each has a receipt of its own.
    """
    ordered = sorted(stream_ids)
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def milliseconds(when: datetime) -> int:
    """Return ``when`` as Redis keeps it."""
    return (when - _EPOCH) // timedelta(milliseconds=1)


def moment(unix_milliseconds: int) -> datetime:
    """Return the time that Redis keeps as milliseconds."""
    return _EPOCH + timedelta(milliseconds=unix_milliseconds)


def _is_unicode(text: str) -> bool:
    """Return whether ``text`` is free of lone surrogates, which no encoding can carry."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _delta(packed: bytes) -> Delta:
    heartbeats, views, watched, units, rest, peak, at = map(int, _SEVEN_DOUBLES.unpack(packed))
    return Delta(
        heartbeats=heartbeats,
        views=views,
        watch_seconds=watched,
        bytes_out=units * 2**32 + rest,
        peak=peak,
        peak_at=moment(at) if peak else None,
    )
