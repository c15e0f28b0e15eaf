"""What security events are made of: reports, facts, places, conclusions."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeAlias

from rootstream_db.models import RiskLevel, SecurityEventKind

_IPV4_PREFIX: Final = 24
_IPV6_PREFIX: Final = 64


@dataclass(frozen=True, slots=True)
class GeoPoint:
    """A place on earth, in degrees."""

    latitude: float
    longitude: float


GeoResolver: TypeAlias = Callable[[str], GeoPoint | None]
"""Tells where an IP address is, as far as is known; asked at each good login."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Something that happened.

    Attributes:
        kind: what.
        risk: how bad it may be; the kind's usual risk unless given.
        user_id: whose account, if one is concerned.
        login_hash: the digest of the login that was tried.
        ip_address: from where.
        user_agent: what the client calls itself; only its digest is kept.
        details: facts for people, never secrets.
    """

    kind: SecurityEventKind
    risk: RiskLevel | None = None
    user_id: int | None = None
    login_hash: bytes | None = None
    ip_address: str | None = None
    user_agent: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginFact:
    """A login as rules see it.

    Attributes:
        occurred_at: when.
        login: the digest of the login that was tried.
        is_known: whether there is such an account.
        succeeded: whether the password was right.
    """

    occurred_at: datetime
    login: bytes
    is_known: bool
    succeeded: bool


@dataclass(frozen=True, slots=True)
class Sighting:
    """Somebody was seen at a place."""

    at: datetime
    place: GeoPoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a rule concluded.

    Attributes:
        kind: what it takes this for.
        risk: how bad it may be.
        reason: why, for people.
        blocks_network: whether the network should be kept out for a while.
        details: figures for people.
    """

    kind: SecurityEventKind
    risk: RiskLevel
    reason: str
    blocks_network: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)


USUAL_RISK: Final[Mapping[SecurityEventKind, RiskLevel]] = {
    SecurityEventKind.LOGIN_LOCKED: RiskLevel.MEDIUM,
    SecurityEventKind.ADDRESS_BLOCKED: RiskLevel.MEDIUM,
    SecurityEventKind.PASSWORD_RESET: RiskLevel.MEDIUM,
    SecurityEventKind.MFA_LOCKED: RiskLevel.HIGH,
    SecurityEventKind.FACTOR_REMOVED: RiskLevel.MEDIUM,
    SecurityEventKind.TOKEN_REUSED: RiskLevel.HIGH,
}
"""Risks of events that are not low."""


def network_of(ip_address: str) -> str:
    """Return the network whose addresses are counted together.

    >>> network_of("192.0.2.77"), network_of("2001:db8::77"), network_of("::ffff:192.0.2.77")
    ('192.0.2.0/24', '2001:db8::/64', '192.0.2.0/24')
    """
    address = ipaddress.ip_address(ip_address)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    prefix = _IPV4_PREFIX if address.version == 4 else _IPV6_PREFIX  # noqa: PLR2004 - IPv4
    return str(ipaddress.ip_network((address, prefix), strict=False))


def user_agent_hash(user_agent: str | None) -> bytes | None:
    """Return the digest by which a device's program is recognised."""
    if not user_agent:
        return None
    return hashlib.sha256(user_agent.encode("utf-8", "surrogatepass")).digest()
