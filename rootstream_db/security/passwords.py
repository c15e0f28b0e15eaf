"""Passwords: Argon2id under a named profile, with a bound on the memory all hashings may take."""

from __future__ import annotations

import base64
import dataclasses
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal, TypeAlias

import argon2
from argon2 import Parameters, profiles
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from rootstream_db.errors import RateLimitedError

Profile: TypeAlias = Literal[
    "rfc9106-low-memory", "rfc9106-high-memory", "compact", "cheapest-for-tests"
]

PROFILES: Final[dict[Profile, Parameters]] = {
    # RFC 9106 section 4, second recommendation: t=3, 64 MiB, p=4; about 0.1 s on a small server.
    "rfc9106-low-memory": profiles.RFC_9106_LOW_MEMORY,
    # RFC 9106 section 4, first recommendation: t=1, 2 GiB, p=4.
    "rfc9106-high-memory": profiles.RFC_9106_HIGH_MEMORY,
    # OWASP ASVS 5.0 appendix C, the floor: for secrets that are random, such as backup codes.
    "compact": dataclasses.replace(
        profiles.RFC_9106_LOW_MEMORY, time_cost=2, memory_cost=19_456, parallelism=1
    ),
    "cheapest-for-tests": profiles.CHEAPEST,
}
"""The cost parameters that settings choose from, by name."""

MAX_WAIT_SECONDS: Final = 10.0
"""How long a hashing waits for its turn; a login nobody waits for any more is not worth memory."""


class PasswordHasher:
    """Hashes and verifies passwords, at most ``max_concurrent`` at a time.

    Argon2id takes its memory afresh for every hashing, 64 MiB under the default profile. Without
    a bound a hundred logins in parallel would take 6 GiB; more hashings than processors are no
    faster anyway.

    Args:
        profile: the cost of new hashes; older hashes still verify with their own cost.
        max_concurrent: hashings at one time in this process; the number of processors unless told.
        max_wait: seconds a hashing may wait for its turn.
    """

    def __init__(
        self,
        profile: Profile = "rfc9106-low-memory",
        *,
        max_concurrent: int | None = None,
        max_wait: float = MAX_WAIT_SECONDS,
    ) -> None:
        parameters = PROFILES[profile]
        self._argon2 = argon2.PasswordHasher.from_parameters(parameters)
        self._nobody = _unmatchable(parameters)
        self._turns = threading.BoundedSemaphore(max_concurrent or os.cpu_count() or 1)
        self._max_wait = max_wait

    def hash(self, password: str) -> str:
        """Return the encoded hash to store: parameters, a fresh salt and the digest.

        Raises:
            RateLimitedError: too many other hashings were in the queue.
        """
        with self._turn():
            return self._argon2.hash(_encoded(password))

    def verify(self, stored: str | None, password: str) -> bool:
        """Whether ``password`` made the hash ``stored``.

        Without a hash, or with one that is none (a locked account), the answer is False after the
        same work, so that its time does not tell whether there was something to compare with.

        Raises:
            RateLimitedError: too many other hashings were in the queue.
        """
        with self._turn():
            return self._matches(_usable(stored) or self._nobody, _encoded(password))

    def needs_rehash(self, stored: str) -> bool:
        """Whether a hash was made under other parameters than those of the profile."""
        return self._argon2.check_needs_rehash(stored)

    def _matches(self, stored: str, password: bytes) -> bool:
        try:
            return self._argon2.verify(stored, password)
        except VerifyMismatchError:
            return False

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(timeout=self._max_wait):
            raise RateLimitedError(
                "too many passwords are being checked at once: try again shortly",
                retry_after=self._max_wait,
            )
        try:
            yield
        finally:
            self._turns.release()


def _encoded(password: str) -> bytes:
    # Exactly as received, without normalisation (OWASP ASVS 5.0 6.2.8); no text fails to encode.
    return password.encode("utf-8", "surrogatepass")


def _usable(stored: str | None) -> str | None:
    if stored is None:
        return None
    try:
        argon2.extract_parameters(stored)
    except InvalidHashError:
        return None
    return stored


def _unmatchable(parameters: Parameters) -> str:
    """Return a hash that costs what a real one costs and that no password is known to make."""
    cost = f"m={parameters.memory_cost},t={parameters.time_cost},p={parameters.parallelism}"
    salt = _unpadded(secrets.token_bytes(parameters.salt_len))
    digest = _unpadded(secrets.token_bytes(parameters.hash_len))
    return f"$argon2id$v={parameters.version}${cost}${salt}${digest}"


def _unpadded(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii").rstrip("=")
