"""One guarded way to Redis: every command passes the circuit and has its errors translated."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from redis import exceptions as redis_errors

from rootstream_db.cache.circuit import Admission, Circuit
from rootstream_db.cache.connection import connect, parse_target
from rootstream_db.cache.faults import is_outage, translated
from rootstream_db.errors import CacheUnavailableError, RootStreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rootstream_db.settings import RedisSettings


class RedisLink:
    """Two clients, one circuit.

    ``steady`` retries when a connection breaks and is for commands that may run twice; ``once``
    sends everything at most once and is for the rest, such as increments.

    Args:
        settings: where Redis is.
        purpose: what the link is for, as logs should call it.
        on_recovery: called when Redis is back, before any other command is let through; it talks
            to the clients directly and may raise what they raise.
    """

    def __init__(
        self,
        settings: RedisSettings,
        *,
        purpose: str,
        on_recovery: Callable[[], None] | None = None,
    ) -> None:
        self.address = parse_target(settings).address
        self.steady = connect(settings, retry=True)
        self.once = connect(settings, retry=False)
        self.circuit = Circuit(purpose)
        self._on_recovery = on_recovery

    def execute(self, *command: Any) -> Any:
        """Run a command that may safely run twice."""
        with self.guarded():
            return self.steady.execute_command(*command)

    def execute_once(self, *command: Any) -> Any:
        """Run a command at most once; after an error nobody knows whether it ran."""
        with self.guarded():
            return self.once.execute_command(*command)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Refuse the block at once during an outage, and translate what redis-py raises in it."""
        self._admit()
        with self._conversation():
            yield

    def ping(self) -> float:
        """Ask Redis for a sign of life, whatever the circuit says; return the seconds it took."""
        started = time.monotonic()
        with self._conversation():
            self.once.execute_command("PING")
            latency = time.monotonic() - started
            self._recover()
        return latency

    def close(self) -> None:
        """Close all connections."""
        for client in (self.steady, self.once):
            client.close()
            client.connection_pool.disconnect()

    @contextmanager
    def _conversation(self) -> Iterator[None]:
        try:
            yield
        except redis_errors.RedisError as error:
            raise self._failure(error) from error
        except Exception:
            raise
        except BaseException:
            # Interrupted, by Ctrl-C for example. redis-py would keep a connection that had said
            # hello and not yet chosen its database, and later commands would run in another one.
            for client in (self.steady, self.once):
                client.connection_pool.disconnect(inuse_connections=False)
            raise

    def _admit(self) -> None:
        admission = self.circuit.admit()
        if admission is Admission.GO:
            return
        if admission is Admission.REFUSED:
            raise CacheUnavailableError(
                f"Redis at {self.address} is down; the next attempt is due within seconds",
                address=self.address,
                reason="circuit open",
            )
        self.ping()

    def _recover(self) -> None:
        if not self.circuit.is_open:
            return
        if self._on_recovery is not None:
            self._on_recovery()
        self.circuit.recovered()

    def _failure(self, error: redis_errors.RedisError) -> RootStreamError:
        failure = translated(error, self.address)
        if is_outage(error):
            self.circuit.failed(failure)
        return failure
