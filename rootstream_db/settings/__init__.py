"""What the package can be told: typed settings, where they come from, what to think of them."""

from __future__ import annotations

from rootstream_db.settings.access import AccessSettings
from rootstream_db.settings.detection import DetectionSettings
from rootstream_db.settings.events import EventSettings
from rootstream_db.settings.findings import Finding, findings
from rootstream_db.settings.listing import ListedSetting, listing
from rootstream_db.settings.mfa import MfaSettings
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
from rootstream_db.settings.security import SecuritySettings
from rootstream_db.settings.sessions import SessionSettings
from rootstream_db.settings.webhooks import WebhookSettings

__all__ = [
    "AccessSettings",
    "AccountSettings",
    "CacheSettings",
    "DatabaseSettings",
    "DetectionSettings",
    "EmbeddedSettings",
    "EventSettings",
    "Finding",
    "IngestSettings",
    "ListedSetting",
    "LoggingSettings",
    "MfaSettings",
    "RedisSettings",
    "SecuritySettings",
    "SessionSettings",
    "Settings",
    "StreamSettings",
    "ViewerSettings",
    "WebhookSettings",
    "findings",
    "listing",
]
