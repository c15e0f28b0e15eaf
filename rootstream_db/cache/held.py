"""Commands sent so often that redis-py's way of sending them costs more than Redis does.

A client takes a connection out of its pool, packs the command, keeps statistics and puts the
connection back: two thirds of the processor time of a GET. Here the command is put together from
constants, and the connection is one of those that lie ready. Whoever needs one takes the one used
last.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, cast

from redis import exceptions as redis_errors

from rootstream_db.cache.forks import watch_forks

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.connection import Connection

    from rootstream_db.cache.link import RedisLink


class HeldConnections:
    """Reads values over connections that are kept out of the link's pool.

    Args:
        link: the way to Redis; its circuit is asked and told as by any other command.
        key_length: the length that every key has, in bytes.
        most: how many connections are kept; the pool has more, for other commands.
        on_loss: called when a connection turns out to be lost: between then and the last answer
            Redis may have been restarted, with less than it knew before.
    """

    def __init__(
        self, link: RedisLink, *, key_length: int, most: int, on_loss: Callable[[], object]
    ) -> None:
        self._link = link
        self._circuit = link.circuit
        self._pool = link.once.connection_pool
        self._most = most
        self._on_loss = on_loss
        self._head = b"*2\r\n$3\r\nGET\r\n$%d\r\n" % key_length
        self._ready: deque[Connection] = deque()
        watch_forks(self)

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, or None.

        Raises:
            CacheUnavailableError: Redis is down.
            StorageError: the key holds no string.
        """
        return self._run(self._head + key + b"\r\n")

    def put_new(self, key: bytes, value: bytes, milliseconds: int) -> None:
        """Give a key a value for a time, unless it has one.

        Raises:
            CacheUnavailableError: Redis is down.
        """
        life = b"%d" % milliseconds
        parts = (b"SET", key, value, b"PX", life, b"NX")
        packed = b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        self._run(b"*6\r\n" + packed)

    def _run(self, command: bytes) -> bytes | None:
        failure: redis_errors.RedisError | None = None
        if not self._circuit.is_open:
            try:
                return self._ask(command, self._ready.pop())
            except IndexError:
                # All are in use, or this is the first call.
                pass
            except redis_errors.RedisError as error:
                failure = error
        with self._link.guarded():
            if isinstance(failure, redis_errors.ConnectionError | redis_errors.TimeoutError):
                self._on_loss()
                self.close()
            if failure is not None and not isinstance(failure, redis_errors.ConnectionError):
                # It took its time already, or would be refused again.
                raise failure
            return self._ask(command, self._fresh())

    def close(self) -> None:
        """Close the connections that nobody is using."""
        while self._ready:
            try:
                connection = self._ready.pop()
            except IndexError:
                return
            self._discard(connection)

    def after_fork(self) -> None:
        """Leave the connections to the parent."""
        self._ready = deque()

    def _ask(self, command: bytes, connection: Connection) -> bytes | None:
        try:
            connection.send_packed_command((command,), check_health=False)
            value = connection.read_response()
        except BaseException:
            # Whatever happened, an answer may still be under way on it.
            self._discard(connection)
            raise
        if len(self._ready) < self._most:
            self._ready.append(connection)
        else:
            self._pool.release(connection)
        return cast("bytes | None", value)

    def _fresh(self) -> Connection:
        return self._pool.get_connection()

    def _discard(self, connection: Connection) -> None:
        connection.disconnect()
        self._pool.release(connection)
