"""One POST to a receiver: an address that was checked, a verified certificate, a bounded time."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from rootstream_db.services.webhooks.addresses import Target, refusal
from rootstream_db.settings import WebhookSettings

USER_AGENT: Final = "RootStream-DB-Webhooks/1"
"""How receivers see us in their logs."""

_SUCCESS: Final = range(200, 300)
_REDIRECT: Final = range(300, 400)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of a POST: a status, or an error, or both; no error means success."""

    status: int | None = None
    error: str | None = None
    retry_after: str | None = None
    duration_ms: int = 0

    @property
    def is_gone(self) -> bool:
        """Whether the receiver wants to hear nothing more."""
        return self.status == HTTPStatus.GONE


class Transport:
    """Sends messages; every one over a connection of its own, so that nothing is shared.

    The body of an answer is not read: only its status and ``Retry-After`` matter, and an endless
    one costs nothing. Redirects are not followed: where they lead was not checked.

    Args:
        settings: how long a receiver may take and where it may be.
    """

    def __init__(self, settings: WebhookSettings) -> None:
        self._settings = settings
        self._tls = ssl.create_default_context(
            cafile=str(settings.ca_file) if settings.ca_file else None
        )
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2

    def post(self, target: Target, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a message and say what came of it; whatever the network does, nothing is raised."""
        started = time.monotonic()
        deadline = _Deadline(self._settings.timeout)
        try:
            status, asked = self._exchange(target, headers, body, deadline)
            error = _complaint(status)
        except (OSError, http.client.HTTPException, ValueError) as failure:
            status, asked, error = None, None, self._reason(failure, deadline)
        return Answer(
            status=status,
            error=error,
            retry_after=asked,
            duration_ms=round((time.monotonic() - started) * 1000),
        )

    def _exchange(
        self, target: Target, headers: Mapping[str, str], body: bytes, deadline: _Deadline
    ) -> tuple[int, str | None]:
        with self._connected(target, deadline) as connected:
            connection = http.client.HTTPConnection(target.host, target.port)
            connection.sock = connected
            # Without this http.client would look the name up again when the peer hangs up.
            connection.auto_open = 0
            connection.request(
                "POST",
                target.path,
                body,
                {
                    "Host": target.authority,
                    "Content-Type": "application/json",
                    "User-Agent": USER_AGENT,
                    "Connection": "close",
                    **headers,
                },
            )
            with connection.getresponse() as response:
                # http.client takes headers that were cut off for all there are.
                if deadline.passed:
                    raise TimeoutError
                return response.status, response.getheader("Retry-After")

    @contextmanager
    def _connected(self, target: Target, deadline: _Deadline) -> Iterator[socket.socket]:
        plain = _connect(self._addresses(target), target.port, deadline)
        with deadline.watching(plain):
            if target.scheme == "http":
                yield plain
            else:
                with self._tls.wrap_socket(plain, server_hostname=target.host) as encrypted:
                    yield encrypted

    def _addresses(self, target: Target) -> list[str]:
        """Return what the host's name stands for; one address that is refused spoils the name."""
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        addresses = [str(place[0]) for *_, place in found]
        for address in addresses:
            reason = refusal(target, address, self._settings)
            if reason is not None:
                raise _RefusedAddressError(f"refused address: {reason}")
        return addresses

    def _reason(self, failure: Exception, deadline: _Deadline) -> str:
        if deadline.passed or isinstance(failure, TimeoutError):
            return f"no answer within {self._settings.timeout:g} s"
        if isinstance(failure, _RefusedAddressError):
            return str(failure)
        if isinstance(failure, ssl.SSLCertVerificationError):
            return f"certificate refused: {failure.verify_message}"
        if isinstance(failure, socket.gaierror):
            return "the host name cannot be resolved"
        # Only the kind: the message of an HTTP error repeats what the peer sent.
        return f"no answer: {getattr(failure, 'strerror', None) or type(failure).__name__}"


class _RefusedAddressError(ValueError):
    """The host's name stands for an address that webhooks do not go to."""


class _Deadline:
    """Ends a whole exchange in time: the timeouts of sockets start anew with every byte."""

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self._ends = time.monotonic() + seconds

    def remaining(self) -> float:
        return max(self._ends - time.monotonic(), 0.001)

    @contextmanager
    def watching(self, connection: socket.socket) -> Iterator[None]:
        """Cut the connection when the time is up; close it in any case."""
        connection.settimeout(self.remaining())
        # A descriptor of its own, which TLS does not take away and nobody closes meanwhile.
        handle = connection.dup()
        timer = threading.Timer(self.remaining(), self._cut, [handle])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
            handle.close()
            connection.close()

    def _cut(self, handle: socket.socket) -> None:
        self.passed = True
        # An error means that the peer was faster.
        with suppress(OSError):
            handle.shutdown(socket.SHUT_RDWR)


def _connect(addresses: list[str], port: int, deadline: _Deadline) -> socket.socket:
    failure: OSError = TimeoutError()
    for address in addresses:
        try:
            return socket.create_connection((address, port), timeout=deadline.remaining())
        except OSError as error:
            failure = error
    raise failure


def _complaint(status: int) -> str | None:
    if status in _SUCCESS:
        return None
    if status in _REDIRECT:
        return f"answered {status}: redirects are not followed"
    return f"answered {status}"
