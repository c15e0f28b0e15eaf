"""The hook server as a process: waitress, and the maintenance that keeps live state true."""

from __future__ import annotations

import ipaddress
import logging
import socket
from contextlib import ExitStack
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from rootstream_db.errors import ConfigurationError
from rootstream_db.services.ingest.authorizer import IngestAuthorizer
from rootstream_db.services.ingest.backlog import Backlog
from rootstream_db.services.ingest.missed import MissedRecordings
from rootstream_db.services.ingest.wsgi import MAX_BODY_BYTES, IngestApplication
from rootstream_db.services.maintenance import Maintenance
from rootstream_db.settings import IngestSettings, Settings

if TYPE_CHECKING:
    from waitress.server import BaseWSGIServer, MultiSocketServer

    from rootstream_db.database import Database
    from rootstream_db.services.streams import StreamManager
    from rootstream_db.services.viewers import ViewerManager

THREADS: Final = 8
CONNECTION_LIMIT: Final = 500
CHANNEL_TIMEOUT_SECONDS: Final = 30
FLUSH_INTERVAL: Final = timedelta(seconds=1)
RECEIPT_INTERVAL: Final = timedelta(hours=1)
CATCH_UP_INTERVAL: Final = timedelta(minutes=2)
SHORTEST_INTERVAL: Final = timedelta(milliseconds=200)
LONGEST_INTERVAL: Final = timedelta(seconds=5)
_ROUNDS_PER_LEASE: Final = 4
_logger = logging.getLogger(__name__)


class IngestServer:
    """Listens as soon as it is made; ``run`` answers until it is interrupted.

    Several may run at once, on one machine or many: everything they share is in PostgreSQL.

    Args:
        authorizer: what decides about hooks.
        database: what must be reachable for that.
        streams: what ends dead publishers, several times a lease.
        viewers: what moves viewer counts to PostgreSQL, every second.
        settings: where to listen, and how long leases are.

    Raises:
        ConfigurationError: waitress is missing, the address cannot be listened on, or it can be
            reached from other machines while no hook token is set.
    """

    def __init__(
        self,
        authorizer: IngestAuthorizer,
        *,
        database: Database,
        streams: StreamManager,
        viewers: ViewerManager,
        settings: Settings,
    ) -> None:
        _require_token_when_public(settings.ingest)
        self._backlog = Backlog(authorizer.authorize)
        missed = MissedRecordings(database, settings.ingest.recordings_directory)
        self._background = (
            self._backlog,
            Maintenance(
                "ending dead streams",
                streams.reap,
                interval=interval_for(settings.streams.lease_ttl),
            ),
            Maintenance("flushing viewers", viewers.flush, interval=FLUSH_INTERVAL),
            Maintenance(
                "deleting old receipts", viewers.delete_old_receipts, interval=RECEIPT_INTERVAL
            ),
            Maintenance(
                "looking for missed recordings",
                lambda: [self._backlog.authorize(request) for request in missed.find()],
                interval=CATCH_UP_INTERVAL,
            ),
        )
        application = IngestApplication(
            self._backlog.authorize,
            check=database.ping,
            hook_token=settings.ingest.hook_token,
        )
        self._socket = _listen(settings.ingest)
        self._server = _serve(application, self._socket)

    @property
    def url(self) -> str:
        """Where the server is reached, with the port that was really taken."""
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def run(self) -> None:
        """Answer hooks until interrupted (``KeyboardInterrupt`` or ``SystemExit``)."""
        _logger.info("ingest hooks are answered at %s", self.url)
        with ExitStack() as background:
            for part in self._background:
                background.enter_context(part)
            self._server.run()

    def close(self) -> None:
        """Stop listening."""
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def interval_for(lease_ttl: timedelta) -> timedelta:
    """Return how often to look: several times a lease, but neither hectic nor idle."""
    return min(max(lease_ttl / _ROUNDS_PER_LEASE, SHORTEST_INTERVAL), LONGEST_INTERVAL)


def _listen(settings: IngestSettings) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}",
            setting="ingest.port",
        ) from error
    return listening


def _serve(
    application: IngestApplication, listening: socket.socket
) -> BaseWSGIServer | MultiSocketServer:
    try:
        from waitress.server import create_server
    except ImportError as error:
        listening.close()
        raise ConfigurationError(
            "waitress is not installed: pip install 'rootstream-db[ingest]'", setting="ingest"
        ) from error
    return create_server(
        application,
        sockets=[listening],
        threads=THREADS,
        connection_limit=CONNECTION_LIMIT,
        channel_timeout=CHANNEL_TIMEOUT_SECONDS,
        max_request_body_size=MAX_BODY_BYTES,
        ident=None,
    )


def _require_token_when_public(settings: IngestSettings) -> None:
    if settings.hook_token is None and not _is_loopback(settings.host):
        raise ConfigurationError(
            f"anybody who reaches {settings.host} could end streams: set ingest.hook_token, "
            "or listen on 127.0.0.1",
            setting="ingest.hook_token",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
