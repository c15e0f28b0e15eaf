"""Settings of login sessions: how long they live, and how far the cache is trusted."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field

from rootstream_db.settings.section import Duration, Seconds, Section

_SECOND = timedelta(seconds=1)
_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)


class SessionSettings(Section):
    """Login sessions."""

    absolute_ttl: Duration = Field(
        default=30 * 24 * _HOUR, ge=_MINUTE, description="A session ends after, used or not."
    )
    idle_ttl: Duration = Field(
        default=24 * _HOUR, ge=_MINUTE, description="A session that is not used ends after."
    )
    mfa_ttl: Duration = Field(
        default=24 * _HOUR, ge=_MINUTE, description="How long a second factor counts."
    )
    max_per_user: int = Field(
        default=10, ge=1, le=1000, description="Open sessions of one account; older ones give way."
    )
    touch_interval: Duration = Field(
        default=_MINUTE, ge=_SECOND, description="Least time between two notes of a use."
    )
    max_stale: Duration = Field(
        default=_MINUTE,
        ge=timedelta(0),
        le=24 * _HOUR,
        description="Longest a cached session is trusted unasked, so also the longest a revoked "
        "one can live when Redis is lost; 0: PostgreSQL is asked every time.",
    )
    device_policy: Literal["log", "step_up", "revoke"] = Field(
        default="step_up",
        description="What happens to a session that is used from another device.",
    )
    rotation_grace: Duration = Field(
        default=10 * _SECOND,
        ge=timedelta(0),
        description="A replaced token that comes back within is late; after it, it is stolen.",
    )
    redis_timeout: Seconds = Field(
        default=0.25, gt=0, description="Longest wait for Redis before PostgreSQL is asked."
    )
    memory_ttl: Duration = Field(
        default=timedelta(0),
        ge=timedelta(0),
        le=5 * _SECOND,
        description="How long a process keeps a session in its own memory; 0: not at all.",
    )
