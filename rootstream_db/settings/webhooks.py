"""Settings of webhooks: patience, repetition, and which addresses may be reached."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, Field

from rootstream_db.settings.section import Duration, Seconds, Section

Network: TypeAlias = IPv4Network | IPv6Network
"""A range of addresses, such as ``10.20.0.0/16``."""

_HOUR = timedelta(hours=1)
_SECOND = timedelta(seconds=1)


def _split(value: object) -> object:
    """Take a list in one string apart."""
    return value.replace(",", " ").split() if isinstance(value, str) else value


class WebhookSettings(Section):
    """Telling other systems of events over HTTP."""

    timeout: Seconds = Field(
        default=10.0, gt=0, le=300, description="Longest a receiver may take, connecting included."
    )
    attempts: int = Field(
        default=12, ge=1, le=100, description="Attempts before a message is given up."
    )
    first_delay: Duration = Field(
        default=5 * _SECOND, gt=timedelta(0), description="Pause after the first failure."
    )
    max_delay: Duration = Field(
        default=12 * _HOUR, gt=timedelta(0), description="Longest pause between attempts."
    )
    disable_after: Duration = Field(
        default=120 * _HOUR, gt=timedelta(0), description="Failing so long disables an endpoint."
    )
    keep: Duration = Field(
        default=720 * _HOUR, ge=_SECOND, description="How long finished messages are kept."
    )
    workers: int = Field(default=16, ge=2, le=256, description="Requests of one process at once.")
    per_endpoint: int = Field(
        default=4, ge=1, le=256, description="Requests of one process to one endpoint at once."
    )
    poll_interval: Seconds = Field(
        default=1.0, gt=0, description="Longest pause before looking for new events again."
    )
    allow_loopback: bool = Field(
        default=True, description="Endpoints on this machine; switch off if users choose URLs."
    )
    allowed_networks: Annotated[tuple[Network, ...], BeforeValidator(_split)] = Field(
        default=(), description="Private networks that endpoints may be in."
    )
    ca_file: Path | None = Field(
        default=None, description="Authorities that sign receivers; default: the system's."
    )
