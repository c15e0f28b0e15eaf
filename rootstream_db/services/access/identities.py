"""Identities at other sites: which account they open, and how one comes to open it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootstream_db.errors import (
    ConflictError,
    IdentityRefusedError,
    LastLoginWayError,
    ValidationError,
)
from rootstream_db.models import User
from rootstream_db.models.access import MAX_ISSUER, MAX_SUBJECT, ExternalIdentity
from rootstream_db.services.accounts.journal import AccountJournal
from rootstream_db.services.accounts.rules import check_email
from rootstream_db.services.mfa.changes import FactorChanges
from rootstream_db.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    from rootstream_db.services.event_store import EventStore
    from rootstream_db.services.sessions import SessionManager


class ExternalIdentities:
    """Links accounts to who their owners are at other sites.

    An identity is an issuer and a subject. The caller has made sure that they are true, with
    ``OidcVerifier`` for example; an e-mail address is believed only where the issuer has proved it.

    Args:
        events: the log that changes are appended to.
    """

    def __init__(self, events: EventStore, sessions: SessionManager) -> None:
        self._journal = AccountJournal(events)
        self._factors = FactorChanges(events, sessions)

    def login_or_link(
        self,
        work: UnitOfWork,
        issuer: str,
        subject: str,
        *,
        email: str | None = None,
        email_verified: bool = False,
    ) -> User:
        """Return the account that an identity opens, its login recorded.

        An identity that is not linked yet is linked to the account with its e-mail address if both
        sides have proved the address. If the issuer has not, anybody could claim any account there;
        if the account has not, its maker may have waited here for the owner of the address.

        A second factor, where the account has one, is still owed.

        Raises:
            IdentityRefusedError: it opens no account; ``reason`` says why.
            ValidationError: issuer, subject or address cannot be one.
        """
        _check(issuer, subject)
        found = work.external_identities.get_by_subject(issuer, subject)
        if found is None:
            account = self._match(work, email, verified=email_verified)
            found = self._add(work, account, (issuer, subject), email=email, automatic=True)
        account = work.users.lock(found.user_id)
        if not account.is_active:
            raise IdentityRefusedError("the account is closed", reason="account_closed")
        found.email = found.email if email is None else check_email(email)
        found.last_login_at = account.last_login_at = work.now
        data = {"identity_id": found.id, "issuer": issuer}
        self._journal.record(work, account, "IdentityUsed", data)
        return account

    def link(
        self,
        work: UnitOfWork,
        user: User,
        issuer: str,
        subject: str,
        *,
        email: str | None = None,
        email_verified: bool = False,
    ) -> ExternalIdentity:
        """Let an identity open an account; ask for a fresh login of its owner before.

        If the issuer has proved the address that the account has, it counts as proved here too.

        Raises:
            ConflictError: the identity opens another account.
            ValidationError: issuer, subject or address cannot be one.
        """
        _check(issuer, subject)
        account = work.users.lock(user.id)
        found = work.external_identities.get_by_subject(issuer, subject)
        if found is None:
            found = self._add(work, account, (issuer, subject), email=email, automatic=False)
        elif found.user_id != account.id:
            raise _taken()
        proved = email is not None and email_verified and _same(email, account.email)
        if proved and not account.is_verified:
            account.verify(work.now)
            self._journal.record_profile(work, account, "EmailVerified")
        return found

    def unlink(
        self, work: UnitOfWork, identity: ExternalIdentity, *, keep: int | None = None
    ) -> None:
        """Let an identity no longer open its account; the sessions of the account end.

        Who came in by it is out with it.

        Args:
            work: the unit of work.
            identity: what is unlinked.
            keep: the id of the session that goes on: the one in which this was asked for.

        Raises:
            LastLoginWayError: the account has no password and no other identity.
        """
        # Locked first: of two identities that go at once, one sees that it is the last.
        account = work.users.lock(identity.user_id)
        linked = work.external_identities.list_of_user(account.id)
        if not account.has_password and all(one.id == identity.id for one in linked):
            raise LastLoginWayError("this is the only way to log in: set a password first")
        data = {"identity_id": identity.id, "issuer": identity.issuer}
        self._factors.record(work, account, "IdentityUnlinked", data)
        self._factors.end_sessions(work, account, keep=keep)
        work.external_identities.delete(identity)

    def _match(self, work: UnitOfWork, email: str | None, *, verified: bool) -> User:
        """Return the account that an unknown identity may be linked to by its address."""
        if email is None:
            raise IdentityRefusedError("nobody has this identity", reason="no_account")
        address = check_email(email)
        # Before looking for an account, so that the answer does not tell whether there is one.
        if not verified:
            raise IdentityRefusedError(
                "the other site has not proved the e-mail address", reason="email_unverified"
            )
        known = work.users.get_by_email(address)
        if known is None:
            raise IdentityRefusedError("nobody has this identity", reason="no_account")
        account = work.users.lock(known.id)
        if not account.is_verified or not _same(address, account.email):
            raise IdentityRefusedError(
                "an account has this e-mail address and has not proved it: log in to it and link",
                reason="account_unverified",
            )
        return account

    def _add(
        self,
        work: UnitOfWork,
        account: User,
        who: tuple[str, str],
        *,
        email: str | None,
        automatic: bool,
    ) -> ExternalIdentity:
        issuer, subject = who
        made = ExternalIdentity(
            user_id=account.id,
            issuer=issuer,
            subject=subject,
            email=None if email is None else check_email(email),
        )
        try:
            with work.savepoint():
                work.external_identities.add(made)
        except ConflictError as error:
            found = work.external_identities.get_by_subject(issuer, subject)
            if found is None or found.user_id != account.id:
                raise _taken() from error
            return found
        data = {"identity_id": made.id, "issuer": issuer, "automatic": automatic}
        self._factors.record(work, account, "IdentityLinked", data)
        return made


def _check(issuer: str, subject: str) -> None:
    for name, value, longest in (("issuer", issuer, MAX_ISSUER), ("subject", subject, MAX_SUBJECT)):
        if not 0 < len(value) <= longest or not value.isprintable() or not value.isascii():
            raise ValidationError(f"{name} is 1 to {longest} ASCII characters", field=name)


def _same(one: str, other: str) -> bool:
    return check_email(one).lower() == other.lower()


def _taken() -> ConflictError:
    return ConflictError("this identity opens another account: unlink it there first")
