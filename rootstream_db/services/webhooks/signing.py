"""Signing as the Standard Webhooks specification says: https://www.standardwebhooks.com.

A receiver checks ``HMAC-SHA256(secret, "{webhook-id}.{webhook-timestamp}.{body}")`` and that the
timestamp is recent; libraries for it exist in many languages.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Final

from rootstream_db.errors import ValidationError
from rootstream_db.models.webhooks import WebhookEndpoint
from rootstream_db.security.keyring import KeyRing, row_context
from rootstream_db.security.tokens import SecretText

PREFIX: Final = "whsec_"
"""What a signing secret starts with, so that people and scanners know it."""

PURPOSE: Final = "webhook_endpoints.secret"
"""What signing secrets are sealed for."""

_SECRET_BYTES: Final = 32
_ALLOWED_BYTES: Final = range(24, 65)


class EndpointSecrets:
    """Seals signing secrets, each for its endpoint, and opens them.

    Args:
        keyring: returns the key ring; asked when first needed.
    """

    def __init__(self, keyring: Callable[[], KeyRing]) -> None:
        self._keyring = keyring

    def put(self, endpoint: WebhookEndpoint, key: bytes) -> None:
        """Store the secret of an endpoint that has an id."""
        ring = self._keyring()
        endpoint.secret = ring.seal(key, purpose=PURPOSE, context=_row(endpoint))
        endpoint.secret_key_id = ring.key_id(endpoint.secret)

    def of(self, endpoint: WebhookEndpoint) -> bytes:
        """Return the secret of an endpoint.

        Raises:
            SealError: it cannot be opened.
        """
        if endpoint.secret_key_id is None:
            return endpoint.secret
        return self._keyring().open(endpoint.secret, purpose=PURPOSE, context=_row(endpoint))


def new_secret() -> SecretText:
    """Return a new random signing secret in the form that receivers are given."""
    return shown(secrets.token_bytes(_SECRET_BYTES))


def shown(key: bytes) -> SecretText:
    """Return a key in the form that receivers are given."""
    return SecretText(PREFIX + base64.b64encode(key).decode())


def key_of(secret: str) -> bytes:
    """Return the key that a signing secret stands for.

    Raises:
        ValidationError: it is not ``whsec_`` and the base64 of 24 to 64 bytes.
    """
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if not secret.startswith(PREFIX) or len(key) not in _ALLOWED_BYTES:
        # Without the cause: it would show the secret.
        raise ValidationError(
            f"a webhook secret is {PREFIX} and the base64 of "
            f"{_ALLOWED_BYTES[0]} to {_ALLOWED_BYTES[-1]} bytes",
            field="secret",
        ) from None
    return key


def headers_for(key: bytes, message_id: str, sent_at: datetime, body: bytes) -> dict[str, str]:
    """Return the three headers that prove who sent the body, and when."""
    timestamp = str(int(sent_at.timestamp()))
    signed = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def _row(endpoint: WebhookEndpoint) -> bytes:
    return row_context("webhook_endpoints", endpoint.id)
