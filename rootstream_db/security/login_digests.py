"""Digests in place of what people type as their login, which is a password now and then."""

from __future__ import annotations

import hmac

from rootstream_db.security.token_mint import TokenMint


class LoginDigests:
    """The names under which attempts on logins are counted and recorded.

    They are HMAC-SHA256 under a key made of the pepper: who reads the database cannot find out by
    trying what was typed. When another pepper begins to write, counting begins anew.

    Args:
        mint: has the peppers.
    """

    def __init__(self, mint: TokenMint) -> None:
        self._key = mint.derived_keys("logins")[mint.version]

    def of_login(self, login: str) -> bytes:
        """Return the digest of a login, 32 bytes, whether there is such an account or not."""
        return hmac.digest(self._key, login.encode(), "sha256")

    def of_device(self, digest: bytes) -> bytes:
        """Return the digest under which attempts from a trusted device are counted."""
        # No login holds a NUL, so no login has this digest.
        return hmac.digest(self._key, b"device\0" + digest, "sha256")
