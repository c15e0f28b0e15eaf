"""Decide where a webhook may go, so that nobody reaches our own machines through us.

A URL is checked when it is stored, and the address its name resolves to at every attempt: names
change, and what was public yesterday may lead into our network today.
"""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from rootstream_db.errors import ValidationError
from rootstream_db.settings import WebhookSettings

MAX_URL: Final = 2000
"""Longest URL accepted, in characters."""

_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_Address = IPv4Address | IPv6Address


class Target(NamedTuple):
    """A URL, taken apart; its repr shows no path, which may hold a secret."""

    scheme: str
    host: str
    port: int
    path: str

    def __repr__(self) -> str:
        return f"Target({self.origin!r})"

    @property
    def origin(self) -> str:
        """The part that names the receiver."""
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """The host, and the port if it is not the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def target_of(url: str) -> Target:
    """Take a URL apart.

    Raises:
        ValidationError: it is neither https nor http to this very machine, or says too much.
    """
    # urlsplit drops what it does not like, such as line breaks: look before.
    if not url.isascii() or not url.isprintable() or " " in url or len(url) > MAX_URL:
        raise _refused(f"is at most {MAX_URL} ASCII characters without spaces")
    parts, port = _split(url)
    if parts.username is not None or parts.password is not None:
        raise _refused("holds no user and password: receivers check the signature")
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise _refused("begins with https:// and a host")
    if parts.scheme == "http" and not _is_this_machine(parts.hostname):
        raise _refused("uses https: http is for receivers on this machine only")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, parts.hostname, port or _DEFAULT_PORTS[parts.scheme], path)


def refusal(target: Target, address: str, settings: WebhookSettings) -> str | None:
    """Return why nothing may be sent to an address that the target's host stands for, or None."""
    where = ipaddress.ip_address(address.partition("%")[0])
    where = getattr(where, "ipv4_mapped", None) or where
    if any(where in network for network in settings.allowed_networks):
        return None
    if where.is_loopback:
        if settings.allow_loopback and _is_this_machine(target.host):
            return None
        return "it is on this machine (webhooks.allow_loopback)"
    if not where.is_global or where.is_multicast:
        return "it is not a public address (webhooks.allowed_networks)"
    # Addresses that carry another one inside, which the kernel or a router unwraps.
    if isinstance(where, IPv6Address) and (where.sixtofour or where.teredo or where in _NAT64):
        return "it is a tunnel to another address"
    return None


_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


def _split(url: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _refused("is not a URL") from None
    return parts, port


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _refused(reason: str) -> ValidationError:
    # The URL itself is never repeated: its path may be a secret.
    return ValidationError(f"a webhook URL {reason}", field="url")
