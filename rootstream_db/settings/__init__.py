"""What the package can be told: typed settings, where they come from, what to think of them."""

from __future__ import annotations

from rootstream_db.settings.models import (
    AccountSettings,
    CacheSettings,
    DatabaseSettings,
    EmbeddedSettings,
    IngestSettings,
    LoggingSettings,
    RedisSettings,
    Settings,
    StreamSettings,
    ViewerSettings,
)

__all__ = [
    "AccountSettings",
    "CacheSettings",
    "DatabaseSettings",
    "EmbeddedSettings",
    "IngestSettings",
    "LoggingSettings",
    "RedisSettings",
    "Settings",
    "StreamSettings",
    "ViewerSettings",
]
