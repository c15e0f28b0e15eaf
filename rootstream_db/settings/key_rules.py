"""Doubts about the secrets that tokens and stored secrets are protected with."""

from __future__ import annotations

from typing import Final

from rootstream_db.errors import Severity
from rootstream_db.settings.models import Settings
from rootstream_db.settings.rule import Rule
from rootstream_db.settings.urls import POSTGRES_SCHEMES, parse_url


def _without(settings: Settings, name: str, *, environment: str) -> bool:
    """Whether a key is missing; embedded servers come with keys of their own."""
    return (
        settings.security.environment == environment
        and getattr(settings.security, name) is None
        and (settings.embedded.path is None or settings.database.url is not None)
    )


def _public_keys(settings: Settings) -> bool:
    return any(
        _without(settings, name, environment="development")
        for name in ("token_peppers", "master_keys")
    )


def _remote(settings: Settings) -> bool:
    url = settings.database.url
    return (
        url is not None and not parse_url(url.get_secret_value(), schemes=POSTGRES_SCHEMES).is_local
    )


KEY_RULES: Final = (
    Rule(
        id="no-token-peppers",
        severity=Severity.CRITICAL,
        category="security",
        setting="security.token_peppers",
        applies=lambda s: _without(s, "token_peppers", environment="production"),
        message="production has no pepper for the digests of tokens: nobody can log in",
        advice="Set ROOTSTREAM_SECURITY__TOKEN_PEPPERS_FILE to a file with 1:<base64 of 32 bytes>.",
    ),
    Rule(
        id="no-master-keys",
        severity=Severity.CRITICAL,
        category="security",
        setting="security.master_keys",
        applies=lambda s: _without(s, "master_keys", environment="production"),
        message="production has no master key: no second factor can be stored or checked",
        advice="Set ROOTSTREAM_SECURITY__MASTER_KEYS_FILE to a file with 1:<base64 of 32 bytes>.",
    ),
    Rule(
        id="public-keys",
        severity=Severity.LOW,
        category="security",
        setting="security.environment",
        applies=lambda s: _public_keys(s) and not _remote(s),
        message="tokens and stored secrets are protected by keys that everybody knows",
        advice="Fine for development; set security.environment to production anywhere else.",
    ),
    Rule(
        id="public-keys-on-remote-servers",
        severity=Severity.HIGH,
        category="security",
        setting="security.environment",
        applies=lambda s: _public_keys(s) and _remote(s),
        message="a remote database is protected by keys that everybody knows",
        advice="Set security.environment to production, and both keys.",
    ),
)
