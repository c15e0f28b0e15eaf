"""Read database and Redis URLs without loading a driver, and show them without their password."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

POSTGRES_SCHEMES: Final = ("postgresql", "postgres", "postgresql+psycopg")
REDIS_SCHEMES: Final = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
_DEFAULT_PORTS: Final = {
    "redis": 6379,
    "rediss": 6379,
    "redis+sentinel": 26379,
    "rediss+sentinel": 26379,
}
_LOCAL_NAMES: Final = ("", "localhost", "127.0.0.1", "::1")

_UNREADABLE: Final = (
    "cannot be read as a URL: special characters of the user or password must be "
    "percent-encoded (%40 for @, %23 for #, %2F for /)"
)


@dataclass(frozen=True, kw_only=True)
class Host:
    """One server address; a name that starts with a slash is a folder of unix sockets."""

    name: str
    port: int | None

    @property
    def is_local(self) -> bool:
        """Tell whether traffic to this host never leaves the machine."""
        return self.name.startswith(("/", "@")) or self.name in _LOCAL_NAMES

    def __str__(self) -> str:
        """Write the address as ``host:port``, the port only when one is known."""
        name = f"[{self.name}]" if ":" in self.name else self.name or "localhost"
        return name if self.port is None else f"{name}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class ServerUrl:
    """A URL in parts; the password is kept out of ``repr``."""

    scheme: str
    hosts: tuple[Host, ...]
    database: str
    user: str
    password: str | None = field(repr=False)
    query: dict[str, str] = field(repr=False)

    @property
    def is_local(self) -> bool:
        """Tell whether every host is this machine."""
        return all(host.is_local for host in self.hosts)

    def masked(self) -> str:
        """Return the URL for people: the password as stars, no query."""
        secret = ":***" if self.password else ""
        user = f"{self.user}{secret}@" if self.user or secret else ""
        hosts = ",".join(str(host) for host in self.hosts)
        database = f"/{self.database}" if self.database else ""
        return f"{self.scheme}://{user}{hosts}{database}"


def parse_url(url: str, *, schemes: tuple[str, ...]) -> ServerUrl:
    """Take ``url`` apart.

    Raises:
        ValueError: if it is no URL of one of ``schemes``; the message never quotes the URL.
    """
    scheme = url.partition("://")[0] if "://" in url else ""
    if scheme not in schemes:
        wanted = ", ".join(f"{name}://" for name in schemes)
        msg = f"is not a URL that starts with one of {wanted}"
        raise ValueError(msg)
    try:
        netloc, parts = split_url(url)
        hosts = tuple(_hosts(netloc, parts))
    except ValueError:
        # Not chained: the reason quotes what was taken for the port, often half of the password.
        raise ValueError(_UNREADABLE) from None
    if parts.fragment:
        raise ValueError(_UNREADABLE)
    return _assemble(netloc, parts, hosts)


def split_url(url: str) -> tuple[str, SplitResult]:
    """Return the part of a URL that names user and hosts, and the rest taken apart.

    Python 3.11 before 3.11.4 refuses to take apart a list of hosts with an IPv6 address in it.

    Raises:
        ValueError: the rest is malformed.
    """
    scheme, _, rest = url.partition("://")
    end = min((rest.index(mark) for mark in "/?#" if mark in rest), default=len(rest))
    return rest[:end], urlsplit(f"{scheme}://{rest[end:]}")


def _assemble(netloc: str, parts: SplitResult, hosts: tuple[Host, ...]) -> ServerUrl:
    scheme = parts.scheme
    query = parse_qs(parts.query)
    userinfo = netloc.rpartition("@")[0]
    user, _, password = userinfo.partition(":")
    return ServerUrl(
        scheme=scheme,
        hosts=hosts,
        database="" if scheme == "unix" else unquote(parts.path.removeprefix("/")),
        user=unquote(user) or query.get("user", [""])[-1],
        password=unquote(password) or query.get("password", [""])[-1] or None,
        query={key: values[-1] for key, values in query.items()},
    )


def _hosts(netloc: str, parts: SplitResult) -> list[Host]:
    if parts.scheme == "unix":
        return [Host(name=parts.path or "/", port=None)]
    query = parse_qs(parts.query)
    default = _DEFAULT_PORTS.get(parts.scheme)
    named = [_host(text, default) for text in netloc.rpartition("@")[2].split(",")]
    listed = [text for value in query.get("host", []) for text in value.split(",")]
    if not listed:
        return named
    ports = [text for value in query.get("port", []) for text in value.split(",")]
    return [
        _host(text, int(ports[min(index, len(ports) - 1)]) if ports else default)
        for index, text in enumerate(listed)
    ]


def _host(text: str, default_port: int | None) -> Host:
    if text.startswith(("/", "@")):
        return Host(name=text, port=None)
    single = urlsplit(f"//{text}")
    return Host(name=single.hostname or "", port=single.port or default_port)
