"""Work that a hook starts but must not wait for: reading a recording of many gigabytes."""

from __future__ import annotations

import logging
import queue
import threading
from types import TracebackType
from typing import Final, Self

from rootstream_db.errors import RootStreamError
from rootstream_db.services.ingest.requests import Decision, HookEvent, IngestRequest
from rootstream_db.services.ingest.wsgi import Authorize, log_decision

_logger = logging.getLogger(__name__)

LONGEST: Final = 10_000
"""Hooks that may wait; more are refused, and the media server's log says so."""
RETRY_SECONDS: Final = 5.0
CLOSE_SECONDS: Final = 30.0
_DEFERRED: Final = frozenset({HookEvent.RECORD_DONE})


class Backlog:
    """Takes finished recordings off the hook server's hands, one after the other.

    Stands in front of an authoriser: hooks about recordings are queued and acknowledged, all
    others are passed on. When a media server stops, all its broadcasts end at once; reading their
    recordings inside the hooks would keep every other hook waiting.

    What is still queued when the process is killed is lost; ``close`` waits for it, for a while.
    A hook that fails because the database is away is tried again until it is back.
    """

    def __init__(
        self,
        authorize: Authorize,
        *,
        retry_seconds: float = RETRY_SECONDS,
        close_seconds: float = CLOSE_SECONDS,
    ) -> None:
        self._decide = authorize
        self._retry_seconds = retry_seconds
        self._close_seconds = close_seconds
        self._waiting: queue.Queue[IngestRequest | None] = queue.Queue(LONGEST)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ingest-backlog", daemon=True)

    def authorize(self, request: IngestRequest) -> Decision:
        """Decide, or queue and acknowledge."""
        if request.event not in _DEFERRED:
            return self._decide(request)
        try:
            self._waiting.put_nowait(request)
        except queue.Full:
            return Decision(allow=False, reason=f"{LONGEST} recordings are waiting already")
        return Decision(allow=True, reason="the recording is queued")

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def close(self) -> None:
        """Work off what is queued, but give up after a while."""
        if not self._thread.is_alive():
            return
        self._waiting.put(None)
        self._thread.join(self._close_seconds)
        self._stop.set()
        self._thread.join(self._close_seconds)

    def _run(self) -> None:
        while (request := self._waiting.get()) is not None:
            if self._stop.is_set():
                _logger.error("recording not registered, shutting down: %s", request.file_path)
                continue
            self._work(request)

    def _work(self, request: IngestRequest) -> None:
        while True:
            try:
                log_decision(request, self._decide(request))
            except RootStreamError as error:
                _logger.warning("recording %s not registered: %s", request.file_path, error)
                if error.retryable and not self._stop.wait(self._retry_seconds):
                    continue
            except Exception:
                _logger.exception("recording not registered: %s", request.file_path)
            return

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
