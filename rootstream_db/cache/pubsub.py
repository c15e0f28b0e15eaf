"""The event bus: small messages between processes, over Redis pub/sub."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import orjson

from rootstream_db.cache.forks import watch_forks
from rootstream_db.cache.keys import channel_name
from rootstream_db.cache.link import RedisLink
from rootstream_db.cache.listener import Listener
from rootstream_db.cache.tally import Tally
from rootstream_db.errors import StorageError, ValidationError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from rootstream_db.settings import RedisSettings

logger = logging.getLogger("rootstream_db.cache")

Handler: TypeAlias = Callable[[str, dict[str, Any]], object]
"""Called with the topic and the payload of each message."""

SLOW_HANDLER_SECONDS: Final = 1.0
"""A handler that takes longer is counted and logged: messages behind it wait."""

_TOPIC: Final = re.compile(r"[A-Za-z0-9_.:/@-]{1,200}")
_PATTERN: Final = re.compile(r"[A-Za-z0-9_.:/@*?\[\]^-]{1,200}")


@dataclass(frozen=True, slots=True)
class BusStats:
    """What the bus did since it was made.

    Attributes:
        published: messages sent.
        received: messages that reached this process, once per subscribed channel or pattern.
        malformed: received messages that were not JSON objects, dropped.
        handler_errors: exceptions that handlers raised.
        slow_handlers: calls of handlers that took longer than a second.
        reconnects: times the listener found its way back to Redis.
    """

    published: int
    received: int
    malformed: int
    handler_errors: int
    slow_handlers: int
    reconnects: int


class Subscription:
    """One handler of one topic or pattern; ``close()`` ends it."""

    def __init__(
        self, bus: EventBus, channel: bytes, handler: Handler, *, is_pattern: bool
    ) -> None:
        self.channel = channel
        self.handler = handler
        self.is_pattern = is_pattern
        self.is_closed = False
        self._bus = bus

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def is_active(self) -> bool:
        """Return whether Redis has confirmed it, so that messages sent from now on arrive."""
        return not self.is_closed and self._bus.is_confirmed(self)

    def close(self) -> None:
        """End it: the handler is not called again, though a call under way goes on."""
        self.is_closed = True
        self._bus.forget(self)


class EventBus:
    """Publishes to topics and calls handlers for what others publish.

    Delivery is at most once: a message reaches whoever is subscribed and connected at that
    moment. What must not be lost belongs in the event log; ``on_reconnect`` tells when to look.

    One thread, started by the first subscription, receives for all of them and calls their
    handlers one after the other, in the order of the messages. So a handler must be quick: while
    it runs nothing else is received, and when 32 MB are waiting Redis drops the connection
    (counted in ``reconnects``). Long work belongs on a queue of the caller's. What a handler
    raises is logged and counted, and harms no other handler.

    A forked child keeps the subscriptions, with a thread and a connection of its own.

    Args:
        settings: where Redis is.
    """

    def __init__(self, settings: RedisSettings) -> None:
        self._prefix = settings.key_prefix
        self._link = RedisLink(settings, purpose="event bus")
        self._tally = Tally()
        self._subscriptions: dict[tuple[bool, bytes], list[Subscription]] = {}
        self._reconnected: list[Callable[[], object]] = []
        self._lock = threading.RLock()
        self._listener = Listener(settings, on_message=self._receive, on_return=self._returned)
        watch_forks(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"EventBus({self._link.address})"

    def publish(self, topic: str, payload: Mapping[str, Any]) -> int:
        """Send ``payload`` to the subscribers of ``topic``; return how many connections took it.

        Sent at most once: after ``CacheUnavailableError`` it may or may not have arrived.
        """
        channel = self._channel(topic, _TOPIC)
        receivers = int(self._link.execute_once("PUBLISH", channel, orjson.dumps(payload)))
        self._tally.add("published")
        return receivers

    def subscribe(self, topic: str, handler: Handler) -> Subscription:
        """Call ``handler(topic, payload)`` for every message on ``topic``.

        Returns when Redis has confirmed, so that a message published next does arrive. While
        Redis is down it returns at once and takes effect when Redis is back.
        """
        channel = self._channel(topic, _TOPIC)
        return self._add(Subscription(self, channel, handler, is_pattern=False))

    def psubscribe(self, pattern: str, handler: Handler) -> Subscription:
        """Call ``handler`` for every topic that matches ``pattern``: ``*``, ``?`` and ``[a-z]``."""
        channel = self._channel(pattern, _PATTERN)
        return self._add(Subscription(self, channel, handler, is_pattern=True))

    def on_reconnect(self, hook: Callable[[], object]) -> None:
        """Call ``hook()`` each time all subscriptions stand again after a loss of the connection.

        Messages published in between are gone: read again what they would have told.
        """
        with self._lock:
            self._reconnected.append(hook)

    def stats(self) -> BusStats:
        """Return the counters."""
        return BusStats(**{name: self._tally[name] for name in BusStats.__slots__})

    def close(self) -> None:
        """Stop listening and close the connections; handlers are not called afterwards."""
        with self._lock:
            for subscription in self._all():
                subscription.is_closed = True
            self._subscriptions.clear()
        self._listener.close()
        self._link.close()

    def is_confirmed(self, subscription: Subscription) -> bool:
        """Return whether Redis has confirmed the channel of ``subscription``."""
        return self._listener.is_confirmed(_target(subscription))

    def forget(self, subscription: Subscription) -> None:
        """Drop a closed subscription, and the channel when it was its last."""
        target = _target(subscription)
        with self._lock:
            handlers = self._subscriptions.get(target, [])
            if subscription in handlers:
                handlers.remove(subscription)
            if not handlers and self._subscriptions.pop(target, None) is not None:
                self._listener.unwant(target)

    def after_fork(self) -> None:
        """Replace a lock that another thread of the parent may have held."""
        self._lock = threading.RLock()

    def _add(self, subscription: Subscription) -> Subscription:
        target = _target(subscription)
        if self._listener.is_closed:
            raise StorageError("the event bus is closed")
        with self._lock:
            self._subscriptions.setdefault(target, []).append(subscription)
            self._listener.want(target)
        self._listener.wait_until_confirmed(target)
        return subscription

    def _all(self) -> list[Subscription]:
        return [one for handlers in self._subscriptions.values() for one in handlers]

    def _channel(self, topic: str, allowed: re.Pattern[str]) -> bytes:
        if allowed.fullmatch(topic) is None:
            raise ValidationError(
                f"{topic[:50]!r} is not a topic: 1 to 200 of A-Z a-z 0-9 _ . : / @ -", field="topic"
            )
        return channel_name(self._prefix, topic).encode()

    def _receive(self, target: tuple[bool, bytes], channel: bytes, body: bytes) -> None:
        """Hand one message to the handlers of its channel or pattern; runs in the listener."""
        self._tally.add("received")
        topic = channel.decode()[len(channel_name(self._prefix, "")) :]
        try:
            payload = orjson.loads(body)
        except orjson.JSONDecodeError:
            payload = None
        if not isinstance(payload, dict):
            self._tally.add("malformed")
            logger.warning("event bus: a message on %s is no JSON object; it was dropped", topic)
            return
        with self._lock:
            handlers = tuple(self._subscriptions.get(target, ()))
        for subscription in handlers:
            if not subscription.is_closed:
                self._call(topic, subscription.handler, topic, payload)

    def _returned(self) -> None:
        self._tally.add("reconnects")
        with self._lock:
            hooks = tuple(self._reconnected)
        for hook in hooks:
            self._call("on_reconnect", hook)

    def _call(self, what: str, function: Callable[..., object], *arguments: Any) -> None:
        started = time.monotonic()
        try:
            function(*arguments)
        except Exception:
            self._tally.add("handler_errors")
            logger.exception("event bus: a handler of %s failed", what)
        took = time.monotonic() - started
        if took > SLOW_HANDLER_SECONDS:
            self._tally.add("slow_handlers")
            logger.warning("event bus: a handler of %s took %.1f s; others waited", what, took)


def _target(subscription: Subscription) -> tuple[bool, bytes]:
    return subscription.is_pattern, subscription.channel
