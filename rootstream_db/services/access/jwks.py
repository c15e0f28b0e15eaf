"""The public keys of an issuer: fetched when needed, kept, fetched anew when they change."""

from __future__ import annotations

import ipaddress
import logging
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import datetime, timedelta
from http.client import HTTPException
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import orjson

from rootstream_db.cache.forks import watch_forks
from rootstream_db.clock import Clock
from rootstream_db.errors import IdentityProviderError, ValidationError

Fetch: TypeAlias = Callable[[str], bytes]
"""Returns the document at an address, or raises ``IdentityProviderError``."""

Jwk: TypeAlias = dict[str, Any]
"""A public key as its issuer publishes it (RFC 7517)."""

REFRESH_AFTER: Final = timedelta(hours=1)
"""Age at which keys are fetched anew: how long a key that was withdrawn still counts."""

USABLE_FOR: Final = timedelta(hours=24)
"""Age up to which keys count while the issuer cannot be reached."""

PAUSE: Final = timedelta(seconds=30)
"""Least time between two fetches, however many tokens name keys that nobody knows."""

TIMEOUT_SECONDS: Final = 5.0
MAX_BYTES: Final = 256 * 1024
MAX_KEYS: Final = 100

_CHUNK: Final = 16 * 1024

logger = logging.getLogger(__name__)


class KeySetCache:
    """One issuer's keys.

    Args:
        url: where they are.
        fetch: how they are fetched.
        clock: the source of the current time.
    """

    def __init__(self, url: str, fetch: Fetch, clock: Clock) -> None:
        self._url = check_url(url)
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: tuple[Jwk, ...] = ()
        self._fetched_at: datetime | None = None
        self._tried_at: datetime | None = None
        watch_forks(self)

    def after_fork(self) -> None:
        """Replace a lock that another thread of the parent may have held."""
        self._lock = threading.Lock()

    def find(self, wanted: Callable[[Jwk], bool]) -> list[Jwk]:
        """Return the keys that are wanted; if there is none, those the issuer may have added.

        Raises:
            IdentityProviderError: the keys cannot be had.
        """
        now = self._clock()
        if self._is_older_than(REFRESH_AFTER, now):
            self._refresh(now)
        found = list(filter(wanted, self._keys))
        if not found and self._refresh(now):
            found = list(filter(wanted, self._keys))
        return found

    def _is_older_than(self, age: timedelta, now: datetime) -> bool:
        return self._fetched_at is None or now - self._fetched_at >= age

    def _refresh(self, now: datetime) -> bool:
        """Fetch the keys unless that was tried just now; return whether they are new."""
        with self._lock:
            if self._tried_at is not None and abs(now - self._tried_at) < PAUSE:
                if self._is_older_than(USABLE_FOR, now):
                    raise IdentityProviderError(
                        f"the keys at {self._url} could not be fetched just now", url=self._url
                    )
                return False
            self._tried_at = now
            try:
                self._keys = _parsed(self._fetch(self._url), self._url)
            except IdentityProviderError:
                if self._is_older_than(USABLE_FOR, now):
                    raise
                logger.warning("the keys at %s could not be fetched; old ones count", self._url)
                return False
            self._fetched_at = now
            return True


def fetch_document(url: str) -> bytes:
    """Return the document at an address: https, or http on this machine; redirects are refused.

    Raises:
        IdentityProviderError: there is none, it is too long, or it takes too long.
    """
    request = urllib.request.Request(check_url(url), headers={"Accept": "application/json"})  # noqa: S310 - the scheme was checked
    give_up_at = time.monotonic() + TIMEOUT_SECONDS
    try:
        with _OPENER.open(request, timeout=TIMEOUT_SECONDS) as response:
            body = b""
            while chunk := response.read1(_CHUNK):
                body += chunk
                if len(body) > MAX_BYTES:
                    raise IdentityProviderError(f"{url} is too long", url=url)
                if time.monotonic() > give_up_at:
                    raise IdentityProviderError(f"{url} took too long", url=url)
            return body
    except urllib.error.HTTPError as error:
        error.close()
        raise IdentityProviderError(f"{url} cannot be fetched: {error}", url=url) from None
    except (OSError, HTTPException, ValueError) as error:
        raise IdentityProviderError(f"{url} cannot be fetched: {error}", url=url) from error


def check_url(url: str) -> str:
    """Return the address if what is there can be trusted to come from there.

    Raises:
        ValidationError: it is neither https nor http on this machine.
    """
    parts = urlsplit(url)
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))
    if not (is_safe and parts.hostname and parts.username is None):
        raise ValidationError("an issuer's addresses are https", field="url")
    return url


def _is_loopback(host: str | None) -> bool:
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"


def _parsed(document: bytes, url: str) -> tuple[Jwk, ...]:
    try:
        keys = orjson.loads(document)["keys"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise IdentityProviderError(f"{url} is no set of keys", url=url) from error
    if not isinstance(keys, list) or len(keys) > MAX_KEYS:
        raise IdentityProviderError(f"{url} is no set of at most {MAX_KEYS} keys", url=url)
    return tuple(key for key in keys if isinstance(key, dict))


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Refuses to go elsewhere: what is elsewhere is not what was configured."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_OPENER: Final = urllib.request.build_opener(_NoRedirects)
