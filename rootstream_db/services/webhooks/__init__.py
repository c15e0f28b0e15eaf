"""Webhooks: other systems are told of events over HTTP, signed, at least once."""

from __future__ import annotations

from rootstream_db.services.webhooks.manager import WebhookManager, WebhookStatus
from rootstream_db.services.webhooks.worker import WebhookWorker

__all__ = ["WebhookManager", "WebhookStatus", "WebhookWorker"]
