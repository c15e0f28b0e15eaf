"""The demo's story: accounts, streams, publishers that come and go, a crowd, and the end."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rootstream_db.cli.demo.crowd import Crowd
from rootstream_db.cli.demo.told import Told
from rootstream_db.errors import PermissionDeniedError

if TYPE_CHECKING:
    from rootstream_db.models import Stream
    from rootstream_db.rootstream import RootStream
    from rootstream_db.security.tokens import SecretText
    from rootstream_db.services.streams import Lease

TICK: Final = 0.5
"""Seconds between two rounds of publisher heartbeats, counter flushes and screen updates."""


@dataclass(frozen=True)
class Scale:
    """How big the demo is."""

    streams: int
    viewers: int
    seconds: int
    rate: int


@dataclass
class Broadcast:
    """One publisher of the demo."""

    stream: Stream
    key: SecretText
    lease: Lease


@dataclass
class Progress:
    """What a person watching may see while the demo runs."""

    elapsed: float = 0.0
    live: int = 0
    viewers: int = 0
    heartbeats: int = 0
    flushed: int = 0
    events: int = 0
    notes: list[str] = field(default_factory=list)


class Story:
    """Runs the demo on a data layer and keeps count of what it asked for."""

    def __init__(self, rs: RootStream, scale: Scale) -> None:
        self._rs = rs
        self._scale = scale
        self.told = Told()
        self.progress = Progress()
        self.crowd_seconds = 0.0
        self.start = self._read_on(0)
        self.streams: list[int] = []
        self._position = self.start

    def run(self, show: Callable[[Progress], None]) -> None:
        """Tell the story from the first account to the last broadcast's end."""
        streams = [self._open(number) for number in range(self._scale.streams)]
        self._refuse_a_wrong_key()
        broadcasts = [self._start(stream, key) for stream, key in streams]
        self.streams = [stream.id for stream, _ in streams]
        crowd = Crowd(
            self._rs,
            self.told,
            streams=self.streams,
            viewers=self._scale.viewers,
            rate=self._scale.rate,
        )
        with self._timed(), crowd:
            self._watch(broadcasts, show)
        for broadcast in broadcasts:
            self._rs.streams.stop(broadcast.lease)
        self._flush()
        show(self.progress)

    def open_for_media(self) -> tuple[Stream, SecretText]:
        """Open one more stream, for a real publisher; with a short grace, as its end is awaited."""
        opened = self._open(self._scale.streams, reconnect_grace_seconds=1)
        self.streams.append(opened[0].id)
        self.told.add(starts=1)
        return opened

    def _open(
        self, number: int, *, reconnect_grace_seconds: int | None = None
    ) -> tuple[Stream, SecretText]:
        name = f"demo_{number}_{secrets.token_hex(3)}"
        with self._rs.transaction() as work:
            owner = self._rs.accounts.register(
                work,
                username=name,
                email=f"{name}@example.com",
                password=secrets.token_urlsafe(18),
                display_name=f"Demo publisher {number + 1}",
            )
            opened = self._rs.streams.create(
                work,
                owner=owner,
                name=f"Demo stream {number + 1}",
                reconnect_grace_seconds=reconnect_grace_seconds,
            )
        self.told.add(accounts=1, streams=1)
        return opened

    def _refuse_a_wrong_key(self) -> None:
        try:
            self._rs.streams.start("rsk1_not-a-key", node="demo-ingest")
        except PermissionDeniedError as error:
            self.progress.notes.append(f"a wrong key was refused: {error}")
        else:  # pragma: no cover - would be a hole in the product
            self.told.add(starts=1)

    def _start(self, stream: Stream, key: SecretText) -> Broadcast:
        lease = self._rs.streams.start(key, node="demo-ingest", connection_id=f"c-{stream.id}")
        self.told.add(starts=1)
        return Broadcast(stream, key, lease)

    def _watch(self, broadcasts: list[Broadcast], show: Callable[[Progress], None]) -> None:
        started = time.monotonic()
        dropped = False
        while (elapsed := time.monotonic() - started) < self._scale.seconds:
            self.progress.elapsed = elapsed
            for broadcast in broadcasts:
                self._beat(broadcast, elapsed)
            if not dropped and elapsed >= self._scale.seconds / 2:
                self._drop_and_return(broadcasts[0])
                dropped = True
            self._flush()
            self._look(broadcasts)
            show(self.progress)
            time.sleep(TICK)
        if not dropped:
            self._drop_and_return(broadcasts[0])

    def _beat(self, broadcast: Broadcast, elapsed: float) -> None:
        broadcast.lease = self._rs.streams.heartbeat(
            broadcast.lease,
            bitrate_kbps=4500,
            fps=60.0,
            width=1920,
            height=1080,
            bytes_in=int(elapsed * 4_500_000 / 8),
        )

    def _drop_and_return(self, broadcast: Broadcast) -> None:
        self._rs.streams.disconnect(broadcast.lease)
        broadcast.lease = self._rs.streams.start(
            broadcast.key, node="demo-ingest", connection_id=f"c-{broadcast.stream.id}-again"
        )
        self.told.add(reconnects=1)
        self.progress.notes.append(
            f"{broadcast.stream.name} lost its publisher and resumed the same session"
        )

    def _read_on(self, position: int) -> int:
        for event in self._rs.events.read_all(after_position=position):
            position = event.position
        return position

    def _flush(self) -> None:
        self._rs.viewers.flush()

    def _look(self, broadcasts: list[Broadcast]) -> None:
        progress = self.progress
        counts = self._rs.viewers.counts(self.streams)
        with self._rs.database.read() as work:
            totals = work.stream_totals.list_by_streams(self.streams)
        self._position = self._read_on(self._position)
        progress.flushed = sum(row.heartbeats for row in totals)
        progress.events = self._position - self.start
        progress.live = len(broadcasts)
        progress.viewers = sum(counts.values())
        progress.heartbeats = self.told["heartbeats"]

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.crowd_seconds = time.monotonic() - started
