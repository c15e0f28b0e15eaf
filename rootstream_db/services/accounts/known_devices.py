"""Devices that proved a second factor before: strangers do not lock them out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootstream_db.errors import InvalidTokenError
from rootstream_db.security.tokens import TokenKind

if TYPE_CHECKING:
    from rootstream_db.security.token_mint import TokenMint
    from rootstream_db.unit_of_work import UnitOfWork


class KnownDevices:
    """Tells trusted devices of an account from the rest of the world (OWASP: device cookies)."""

    def __init__(self, mint: TokenMint) -> None:
        self._mint = mint

    def recognise(self, work: UnitOfWork, token: str | None, login: str) -> bytes | None:
        """Return the digest of the token of a trusted device of the account with that login.

        None for everybody else. Nothing is looked up unless somebody brings a token of ours, so a
        stranger learns nothing from the time it takes.
        """
        if token is None:
            return None
        try:
            digest = self._mint.digest(token, TokenKind.TRUSTED_DEVICE)
        except InvalidTokenError:
            return None
        owner = work.trusted_devices.find_owner(digest, now=work.now)
        if owner is None or login not in {owner.username.lower(), owner.email.lower()}:
            return None
        return digest
