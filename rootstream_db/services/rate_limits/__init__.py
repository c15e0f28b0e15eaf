"""Rate limits: how often something may happen, counted in Redis for all processes together."""

from __future__ import annotations

from rootstream_db.services.rate_limits.limiter import RateLimiter
from rootstream_db.services.rate_limits.values import Block, Decision, Limit, WhenDown

__all__ = ["Block", "Decision", "Limit", "RateLimiter", "WhenDown"]
