"""The thread that keeps a subscribed connection to Redis, and rebuilds it when it breaks."""

from __future__ import annotations

import logging
import random
import selectors
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from redis import exceptions as redis_errors

from rootstream_db.cache.connection import connect
from rootstream_db.cache.forks import watch_forks

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.connection import Connection

    from rootstream_db.settings import RedisSettings

logger = logging.getLogger("rootstream_db.cache")

Target: TypeAlias = tuple[bool, bytes]
"""Whether it is a pattern, and the channel or pattern itself."""

IDLE_SECONDS: Final = 5.0
"""After that long without a word a PING asks whether Redis is still there."""

FIRST_BACKOFF_SECONDS: Final = 0.05
LONGEST_BACKOFF_SECONDS: Final = 2.0

JOIN_SECONDS: Final = 10.0
"""How long closing waits for a handler that is running."""


class Listener:
    """Subscribes to what is wanted, and tells what arrives.

    Only its thread touches the connection. Others change the set of wanted targets and wake it
    through a socket pair, so that it sleeps without a time limit of its own and still reacts at
    once; it then sends the difference between what is wanted and what was asked for.

    Args:
        settings: where Redis is.
        on_message: called with the target, the channel and the body of each message.
        on_return: called when everything wanted is confirmed again after a loss.
    """

    def __init__(
        self,
        settings: RedisSettings,
        *,
        on_message: Callable[[Target, bytes, bytes], None],
        on_return: Callable[[], None],
    ) -> None:
        # RESP2: replies in order and without push frames, whose debug text costs CPU each.
        self._client = connect(settings, retry=False, protocol=2)
        self._answer_seconds = settings.socket_timeout
        self._patience = settings.connect_timeout + settings.socket_timeout
        self._on_message = on_message
        self._on_return = on_return
        self._wanted: set[Target] = set()
        self._start_over()
        watch_forks(self)

    def _start_over(self) -> None:
        """Make the state that belongs to one thread in one process."""
        self._changed = threading.Condition()
        self._asked: set[Target] = set()
        self._confirmed: set[Target] = set()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._is_down = False
        self._has_missed = False
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)

    # Called by any thread

    def want(self, target: Target) -> None:
        """Subscribe to ``target`` soon, starting the thread if need be."""
        with self._changed:
            self._wanted.add(target)
            self._ensure_thread()
        self._wake()

    def unwant(self, target: Target) -> None:
        """Unsubscribe from ``target`` soon."""
        with self._changed:
            self._wanted.discard(target)
        self._wake()

    @property
    def is_closed(self) -> bool:
        """Return whether ``close`` was called."""
        return self._closing.is_set()

    def is_confirmed(self, target: Target) -> bool:
        """Return whether Redis has confirmed ``target`` on the present connection."""
        return target in self._confirmed

    def wait_until_confirmed(self, target: Target) -> None:
        """Wait for the confirmation, unless Redis is down or this is the listener's own thread."""
        if threading.current_thread() is self._thread:
            return
        with self._changed:
            self._changed.wait_for(
                lambda: target in self._confirmed or self._is_down or self._closing.is_set(),
                timeout=self._patience,
            )

    def close(self) -> None:
        """End the thread, waiting for a running handler, and close the connection."""
        with self._changed:
            self._wanted.clear()
            thread, self._thread = self._thread, None
            self._closing.set()
            self._changed.notify_all()
        self._wake()
        if thread is not None and thread is not threading.current_thread():
            thread.join(JOIN_SECONDS)
        self._client.connection_pool.disconnect()
        self._wake_writer.close()
        self._wake_reader.close()

    def after_fork(self) -> None:
        """Begin anew in a child: the parent's thread and socket are not the child's."""
        self._wake_reader.close()
        self._wake_writer.close()
        was_closed = self._closing.is_set()
        self._start_over()
        if was_closed:
            self._closing.set()
        elif self._wanted:
            self._ensure_thread()

    def _ensure_thread(self) -> None:
        if self._thread is None and not self._closing.is_set():
            self._thread = threading.Thread(
                target=self._run, name="rootstream-event-bus", daemon=True
            )
            self._thread.start()

    def _wake(self) -> None:
        # Full: a wake-up is pending already. Closed: nobody is left to wake.
        with suppress(BlockingIOError, OSError):
            self._wake_writer.send(b"\0")

    # The listener's own thread

    def _run(self) -> None:
        backoff = FIRST_BACKOFF_SECONDS
        while not self._closing.is_set():
            try:
                self._serve()
            except (redis_errors.RedisError, OSError) as error:
                if self._confirmed:
                    backoff = FIRST_BACKOFF_SECONDS
                self._lost(error)
                self._closing.wait(backoff * random.uniform(0.5, 1.0))
                backoff = min(backoff * 2, LONGEST_BACKOFF_SECONDS)

    def _serve(self) -> None:
        """Keep one connection for as long as it holds."""
        pool = self._client.connection_pool
        connection: Connection = pool.get_connection()
        try:
            with selectors.PollSelector() as ready:
                # redis-py shows its socket nowhere, and a thread that must not poll needs it.
                sock = cast("socket.socket", connection._sock)  # noqa: SLF001
                ready.register(sock, selectors.EVENT_READ)
                ready.register(self._wake_reader, selectors.EVENT_READ)
                self._converse(connection, ready)
        finally:
            connection.disconnect()
            pool.release(connection)

    def _converse(self, connection: Connection, ready: selectors.BaseSelector) -> None:
        self._found()
        self._reconcile(connection)
        is_awaiting_pong = False
        while not self._closing.is_set():
            if not ready.select(self._answer_seconds if is_awaiting_pong else IDLE_SECONDS):
                if is_awaiting_pong:
                    raise redis_errors.ConnectionError("no answer to PING on the event bus")
                connection.send_command("PING", check_health=False)
                is_awaiting_pong = True
            self._drain_wakes()
            self._reconcile(connection)
            while not self._closing.is_set() and connection.can_read(timeout=0):
                # Whatever arrives, the server is there; the PONG may come right after its PING.
                is_awaiting_pong = False
                self._handle(connection.read_response(push_request=True))

    def _drain_wakes(self) -> None:
        with suppress(BlockingIOError):
            while self._wake_reader.recv(4096):
                pass

    def _reconcile(self, connection: Connection) -> None:
        """Ask for what is wanted and was not asked for, and the other way round."""
        with self._changed:
            added, removed = self._wanted - self._asked, self._asked - self._wanted
            self._asked = set(self._wanted)
            self._confirmed -= removed
        for targets, verb in ((added, "SUBSCRIBE"), (removed, "UNSUBSCRIBE")):
            for is_pattern in (False, True):
                names = [name for kind, name in targets if kind is is_pattern]
                if names:
                    command = f"P{verb}" if is_pattern else verb
                    connection.send_command(command, *names, check_health=False)

    def _handle(self, reply: Any) -> None:
        match reply:
            case [b"message", channel, body]:
                self._on_message((False, channel), channel, body)
            case [b"pmessage", pattern, channel, body]:
                self._on_message((True, pattern), channel, body)
            case [b"subscribe" | b"psubscribe" as kind, name, _]:
                self._confirm((kind == b"psubscribe", name))
            case _:
                # Confirmations of unsubscribing, and PONG.
                pass

    def _confirm(self, target: Target) -> None:
        with self._changed:
            if target in self._asked:
                self._confirmed.add(target)
            is_complete = self._confirmed >= self._asked
            self._changed.notify_all()
        if is_complete and self._has_missed:
            self._has_missed = False
            logger.warning("event bus: subscribed again; messages may have been missed")
            self._on_return()

    def _found(self) -> None:
        with self._changed:
            self._is_down = False
            # Nobody was subscribed, so nobody can have missed anything.
            self._has_missed = self._has_missed and bool(self._wanted)

    def _lost(self, error: Exception) -> None:
        with self._changed:
            self._asked.clear()
            self._confirmed.clear()
            was_down, self._is_down = self._is_down, True
            self._has_missed = True
            self._changed.notify_all()
        if not was_down and not self._closing.is_set():
            logger.warning("event bus: lost Redis, trying again until it is back: %s", error)
