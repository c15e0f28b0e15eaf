"""The rules that tell attacks from accidents: facts in, a conclusion out. No clock, no I/O."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

from rootstream_db.models import RiskLevel, SecurityEventKind
from rootstream_db.services.security_events.values import Finding, GeoPoint, LoginFact, Sighting

if TYPE_CHECKING:
    from rootstream_db.settings import DetectionSettings

EARTH_RADIUS_KM: Final = 6371.0088
"""Mean radius (IUGG)."""

_FEW_GUESSES: Final = 3.0
"""Guesses an account that still make it spraying; more is an attack on accounts one by one."""

_MOSTLY: Final = 0.5


def judge_network(facts: Sequence[LoginFact], settings: DetectionSettings) -> list[Finding]:
    """Return what a network's recent logins amount to."""
    findings = (password_spraying(facts, settings), credential_stuffing(facts, settings))
    return [finding for finding in findings if finding is not None]


def password_spraying(facts: Sequence[LoginFact], settings: DetectionSettings) -> Finding | None:
    """Notice a few guesses at each of many accounts, which no lockout of one account sees."""
    failures = [fact for fact in facts if not fact.succeeded]
    tried = {fact.login for fact in failures}
    if len(tried) < settings.spraying_accounts or len(failures) > _FEW_GUESSES * len(tried):
        return None
    return Finding(
        kind=SecurityEventKind.PASSWORD_SPRAYING,
        risk=RiskLevel.HIGH,
        reason=f"{len(failures)} wrong passwords for {len(tried)} accounts from one network",
        blocks_network=True,
        details={"accounts": len(tried), "attempts": len(failures)},
    )


def credential_stuffing(facts: Sequence[LoginFact], settings: DetectionSettings) -> Finding | None:
    """Notice a list of other people's customers being tried: most logins are nobody's here.

    One that fits among them means that an account's password is on the list.
    """
    failures = [fact for fact in facts if not fact.succeeded]
    unknown = {fact.login for fact in failures if not fact.is_known}
    tried = {fact.login for fact in failures}
    if len(unknown) < settings.stuffing_accounts or len(unknown) < _MOSTLY * len(tried):
        return None
    opened = {fact.login for fact in facts if fact.succeeded}
    return Finding(
        kind=SecurityEventKind.CREDENTIAL_STUFFING,
        risk=RiskLevel.CRITICAL if opened else RiskLevel.HIGH,
        reason=f"{len(unknown)} accounts that do not exist were tried from one network",
        blocks_network=True,
        details={"accounts": len(tried), "unknown": len(unknown), "opened": len(opened)},
    )


def impossible_travel(
    before: Sighting, now: Sighting, settings: DetectionSettings
) -> Finding | None:
    """Notice that nobody gets from one login's place to the next one's in the time between."""
    distance = great_circle_km(before.place, now.place)
    hours = max((now.at - before.at).total_seconds(), 0.0) / 3600
    if distance <= settings.travel_distance_km or distance <= settings.travel_speed_kmh * hours:
        return None
    return Finding(
        kind=SecurityEventKind.IMPOSSIBLE_TRAVEL,
        risk=RiskLevel.HIGH,
        reason=f"{distance:.0f} km from the login {hours * 60:.0f} minutes before",
        details={"distance_km": round(distance), "minutes": round(hours * 60)},
    )


def new_device(known: Collection[bytes | None], device: bytes | None) -> Finding | None:
    """Notice a device that the account was never used from; its first one is no news."""
    if device is None or not known or device in known:
        return None
    return Finding(
        kind=SecurityEventKind.NEW_DEVICE,
        risk=RiskLevel.MEDIUM,
        reason="the account was never used from a device like this",
    )


def great_circle_km(one: GeoPoint, other: GeoPoint) -> float:
    """Return the shortest way over the earth's surface (haversine)."""
    first, second = math.radians(one.latitude), math.radians(other.latitude)
    east = math.radians(other.longitude - one.longitude)
    root = (
        math.sin((second - first) / 2) ** 2
        + math.cos(first) * math.cos(second) * math.sin(east / 2) ** 2
    )
    # Rounding may carry the antipode a hair beyond 1.
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(root, 1.0)))
