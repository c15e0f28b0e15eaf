"""A crowd of viewers: threads that watch every stream and say so in batches."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from rootstream_db.errors import CacheUnavailableError
from rootstream_db.services.viewers import Heartbeat

if TYPE_CHECKING:
    from rootstream_db.cli.demo.told import Told
    from rootstream_db.rootstream import RootStream

BATCH: Final = 500
"""Heartbeats sent in one round trip."""
SECONDS_WATCHED: Final = 10
"""What one heartbeat says was watched since the last one, in seconds."""
BYTES_WATCHED: Final = 5_000_000
"""What one heartbeat says was delivered since the last one: 10 s at 4 Mbit/s."""


class Crowd:
    """Viewers of some streams who report until told to stop, no faster than ``rate`` a second."""

    def __init__(
        self, rs: RootStream, told: Told, *, streams: Sequence[int], viewers: int, rate: int
    ) -> None:
        self._rs = rs
        self._told = told
        self._rate = rate
        self._beats = [
            Heartbeat(
                stream_id=streams[number % len(streams)],
                viewer=f"viewer-{number}",
                watch_seconds=SECONDS_WATCHED,
                bytes_out=BYTES_WATCHED,
            )
            for number in range(viewers)
        ]
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._watch, name="demo-crowd", daemon=True)

    def _watch(self) -> None:
        try:
            self._report()
        except Exception as error:  # noqa: BLE001 - raised again where the crowd is joined
            self._error = error

    def _report(self) -> None:
        started, sent, position = time.monotonic(), 0, 0
        while not self._stop.is_set():
            batch = self._beats[position : position + BATCH]
            position = (position + BATCH) % len(self._beats) if batch else 0
            if not batch:
                continue
            self._send(batch)
            sent += len(batch)
            ahead = sent / self._rate - (time.monotonic() - started)
            self._stop.wait(max(ahead, 0))

    def _send(self, batch: Sequence[Heartbeat]) -> None:
        if self._rs.viewers.heartbeat_many(batch) != len(batch):
            raise CacheUnavailableError("Redis did not take the crowd's heartbeats")
        self._told.add(
            heartbeats=len(batch),
            watch_seconds=len(batch) * SECONDS_WATCHED,
            bytes_out=len(batch) * BYTES_WATCHED,
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error
