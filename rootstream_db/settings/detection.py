"""Settings of what is noticed about logins, and what follows from it."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from rootstream_db.settings.section import Duration, Section

_MIN = timedelta(minutes=1)
_SECOND = timedelta(seconds=1)


class DetectionSettings(Section):
    """Attacks on logins: when they are noticed, and when a network is blocked.

    A network is 256 IPv4 addresses (/24) or one IPv6 customer (/64).
    """

    network_attempts: int = Field(
        default=100, ge=1, description="Failed logins of one network before it is slowed down."
    )
    network_window: Duration = Field(
        default=15 * _MIN, ge=_SECOND, description="Failures of a network recover in."
    )
    block_after: int = Field(
        default=20, ge=1, description="Attempts beyond that which block the network."
    )
    block_base: Duration = Field(
        default=15 * _MIN, ge=_SECOND, description="First block of a network; each next is double."
    )
    block_max: Duration = Field(
        default=1440 * _MIN, ge=_SECOND, description="Longest block of a network."
    )
    window: Duration = Field(
        default=30 * _MIN, ge=_SECOND, description="Failed logins are looked at together in."
    )
    spraying_accounts: int = Field(
        default=10, ge=2, description="Accounts tried from one network that make it spraying."
    )
    stuffing_accounts: int = Field(
        default=25, ge=2, description="Unknown accounts tried from one network: a stolen list."
    )
    travel_speed_kmh: float = Field(
        default=1000.0, gt=0, description="Faster between two logins is impossible."
    )
    travel_distance_km: float = Field(
        default=200.0, ge=0, description="Nearer than this, places are too uncertain to judge."
    )
