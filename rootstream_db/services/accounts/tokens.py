"""One-time tokens: issued to prove an e-mail address or to reset a password, redeemed once."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from rootstream_db.errors import CodeReusedError, InvalidCodeError, InvalidTokenError
from rootstream_db.models.users import TokenPurpose, User, UserToken
from rootstream_db.security.tokens import SecretText, TokenKind

if TYPE_CHECKING:
    from rootstream_db.security.token_mint import TokenMint
    from rootstream_db.settings import AccountSettings
    from rootstream_db.unit_of_work import UnitOfWork

KINDS: Final = {
    TokenPurpose.VERIFY_EMAIL: TokenKind.VERIFY_EMAIL,
    TokenPurpose.RESET_PASSWORD: TokenKind.RESET_PASSWORD,
}


class OneTimeTokens:
    """Issues and redeems tokens of which only the digest is stored."""

    def __init__(self, mint: TokenMint, settings: AccountSettings) -> None:
        self._mint = mint
        self._lifetimes: dict[TokenPurpose, timedelta] = {
            TokenPurpose.VERIFY_EMAIL: settings.verification_ttl,
            TokenPurpose.RESET_PASSWORD: settings.reset_ttl,
        }

    def issue(self, work: UnitOfWork, user: User, purpose: TokenPurpose) -> SecretText:
        """Return a new token and void the account's unused ones of that purpose.

        The caller holds the lock on the account, so that two issuers cannot leave two tokens.
        """
        work.user_tokens.void(user.id, purpose)
        issued = self._mint.issue(KINDS[purpose])
        work.user_tokens.add(
            UserToken(
                user_id=user.id,
                purpose=purpose,
                token_hash=issued.digest,
                expires_at=work.now + self._lifetimes[purpose],
            )
        )
        return issued.text

    def find(self, work: UnitOfWork, token: str, purpose: TokenPurpose) -> UserToken:
        """Return a token that can be redeemed; it is not used up yet.

        Raises:
            CodeReusedError: it was redeemed before.
            InvalidCodeError: it is expired, voided, for another purpose or never existed; or it
                was issued before a restore, and nobody knows whether it was redeemed.
        """
        row = work.user_tokens.get_by_hash(self._digest(token, purpose))
        if row is None or row.purpose is not purpose:
            raise _invalid()
        if row.used_at is not None:
            raise CodeReusedError("this link or code was used before: ask for a new one")
        restored_at = work.auth_state.restored_at()
        issued_at = row.expires_at - self._lifetimes[purpose]
        if not row.is_usable(work.now) or (restored_at is not None and issued_at <= restored_at):
            raise _invalid()
        return row

    def redeem(self, work: UnitOfWork, token: str, purpose: TokenPurpose) -> UserToken:
        """Use up a token that was found before; of any number of callers one gets it.

        Raises:
            CodeReusedError: somebody else redeemed it meanwhile.
            InvalidCodeError: it was voided meanwhile.
        """
        redeemed = work.user_tokens.redeem(self._digest(token, purpose), now=work.now)
        # Who comes second learns why by looking again.
        return redeemed or self.find(work, token, purpose)

    def _digest(self, token: str, purpose: TokenPurpose) -> bytes:
        try:
            return self._mint.digest(token, KINDS[purpose])
        except InvalidTokenError as error:
            raise _invalid() from error


def _invalid() -> InvalidCodeError:
    return InvalidCodeError("this link or code is wrong or has expired: ask for a new one")
