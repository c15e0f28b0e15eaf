"""Builds redis-py clients from the settings: TCP, TLS, unix sockets and Sentinel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.connection import BlockingConnectionPool, UnixDomainSocketConnection, parse_url
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry
from redis.sentinel import Sentinel

from rootstream_db.errors import ConfigurationError
from rootstream_db.settings.urls import split_url

if TYPE_CHECKING:
    from rootstream_db.settings import RedisSettings

BACKOFF_BASE_SECONDS: Final = 0.01
BACKOFF_CAP_SECONDS: Final = 0.05
"""With 3 retries a refused port fails in 0.1 s; redis-py's own defaults take 3.6 s."""

HEALTH_CHECK_SECONDS: Final = 30
"""A pooled connection idle for longer is tried with a PING before a command is trusted to it."""

SENTINEL_PORT: Final = 26379
_SENTINEL_SCHEMES: Final = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}
_SCHEMES: Final = {"redis", "rediss", "unix"}


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed ``redis.url``.

    Attributes:
        address: host and port, socket path or service name, fit for logs.
        options: redis-py's connection arguments; they hold the password.
        sentinels: the Sentinel nodes to ask for the primary; empty for a direct connection.
        service: the name the Sentinels know the primary by.
        sentinel_options: arguments for the connections to the Sentinels themselves.
    """

    address: str
    options: dict[str, Any]
    sentinels: tuple[tuple[str, int], ...] = ()
    service: str = ""
    sentinel_options: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"Target({self.address})"


def parse_target(settings: RedisSettings) -> Target:
    """Read ``redis.url``.

    Raises:
        ConfigurationError: it is missing or malformed; the message never repeats it.
    """
    if settings.url is None:
        raise ConfigurationError(
            "no Redis is configured: set ROOTSTREAM_REDIS_URL, or use RootStream.embedded(path)",
            setting="redis.url",
        )
    url = settings.url.get_secret_value()
    try:
        scheme = split_url(url)[1].scheme
        if scheme in _SENTINEL_SCHEMES:
            return _sentinel_target(url, _SENTINEL_SCHEMES[scheme])
        if scheme in _SCHEMES:
            return _direct_target(url)
    except ValueError as error:
        # The cause would show the URL with its password in a traceback.
        problem = "has a malformed part" if "port" not in str(error).lower() else "has a bad port"
        raise ConfigurationError(f"redis.url {problem}", setting="redis.url") from None
    raise ConfigurationError(
        "redis.url must start with redis://, rediss://, unix:// or redis+sentinel://",
        setting="redis.url",
    )


def connect(settings: RedisSettings, *, retry: bool, **options: Any) -> redis.Redis:
    """Return a client with a connection pool of its own; it connects on first use.

    Args:
        settings: where Redis is, and the time-outs.
        retry: try a command again when its connection broke. Only for commands that may run
            twice: the first attempt may have been carried out before the connection broke.
        options: redis-py connection arguments that replace the usual ones.
    """
    target = parse_target(settings)
    merged = _usual_options(settings, target, retry=retry) | target.options | options
    if target.sentinels:
        return _connect_by_sentinel(settings, target, merged)
    pool = BlockingConnectionPool(
        max_connections=settings.max_connections, timeout=settings.socket_timeout, **merged
    )
    return redis.Redis.from_pool(pool)


def _usual_options(settings: RedisSettings, target: Target, *, retry: bool) -> dict[str, Any]:
    options: dict[str, Any] = {
        "socket_timeout": settings.socket_timeout,
        "retry": _retry(settings.retries) if retry else Retry(NoBackoff(), 0),
        "health_check_interval": HEALTH_CHECK_SECONDS if retry else 0,
        # A feature of one vendor's cloud that costs others a round trip per connection.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    if target.options.get("connection_class") is not UnixDomainSocketConnection:
        options |= {"socket_connect_timeout": settings.connect_timeout, "socket_keepalive": True}
    return options


def _retry(retries: int) -> Retry:
    """Retry broken and refused connections; a time-out already took long enough."""
    backoff = ExponentialBackoff(cap=BACKOFF_CAP_SECONDS, base=BACKOFF_BASE_SECONDS)
    return Retry(backoff, retries, supported_errors=(redis.ConnectionError,))


def _connect_by_sentinel(
    settings: RedisSettings, target: Target, options: dict[str, Any]
) -> redis.Redis:
    from redis.connection import SSLConnection
    from redis.sentinel import SentinelManagedSSLConnection

    sentinel_options = {
        "socket_timeout": settings.socket_timeout,
        "socket_connect_timeout": settings.connect_timeout,
        "retry": Retry(NoBackoff(), 0),
    } | (target.sentinel_options or {})
    sentinel = Sentinel(target.sentinels, sentinel_kwargs=sentinel_options)
    if options.pop("connection_class", None) is SSLConnection:
        options["connection_class"] = SentinelManagedSSLConnection
    client: redis.Redis = sentinel.master_for(
        target.service, max_connections=settings.max_connections, **options
    )
    return client


def _direct_target(url: str) -> Target:
    options = parse_url(url)
    if "path" in options:
        return Target(str(options["path"]), dict(options))
    address = f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    return Target(address, dict(options))


def _sentinel_target(url: str, scheme: str) -> Target:
    """Read ``redis+sentinel://[user:password@]host:port,host:port/service[/db][?options]``."""
    netloc, parts = split_url(url)
    credentials, _, hosts = netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise ConfigurationError(
            "redis.url names no service: redis+sentinel://host:port,host:port/service/db",
            setting="redis.url",
        )
    login = f"{credentials}@" if credentials else ""
    options = dict(parse_url(f"{scheme}://{login}sentinel/{database}?{parts.query}"))
    del options["host"]
    sentinel_options = {
        name.removeprefix("sentinel_"): options.pop(name)
        for name in ("sentinel_username", "sentinel_password")
        if name in options
    }
    sentinels = tuple(_host_and_port(host) for host in hosts.split(",") if host)
    return Target(
        f"{unquote(service)} at {hosts}", options, sentinels, unquote(service), sentinel_options
    )


def _host_and_port(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("a Sentinel without a host name")
    return parts.hostname, parts.port or SENTINEL_PORT
