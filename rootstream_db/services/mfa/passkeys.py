"""Passkeys (WebAuthn): a challenge, a signature, and nothing in between that could be phished.

A challenge is answered once. It is taken out of the database in a transaction of its own before
its answer is looked at: if the process dies then, or the caller rolls back, the challenge is gone
and the person begins anew; no answer is ever taken twice. Nothing about a passkey can be guessed,
so nothing is counted; every attempt is written down all the same.
"""

from __future__ import annotations

import secrets
import uuid
from functools import cached_property
from typing import TYPE_CHECKING, Final

from rootstream_db.errors import (
    PasskeyChallengeSpentError,
    PasskeyClonedError,
    PasskeyError,
)
from rootstream_db.models.mfa import (
    CHALLENGE_BYTES,
    ChallengePurpose,
    FactorKind,
    MfaAttemptMethod,
    MfaFactor,
    MfaOutcome,
    PasskeyChallenge,
)
from rootstream_db.security.assurance import AssuranceLevel, MfaMethod, MfaProof
from rootstream_db.services.mfa.rules import check_label, check_room, secret_context
from rootstream_db.services.mfa.values import Ceremony, Factor
from rootstream_db.services.mfa.webauthn import RelyingParty

if TYPE_CHECKING:
    from rootstream_db.database import Database
    from rootstream_db.models import User
    from rootstream_db.security.keyring import KeyRing
    from rootstream_db.services.mfa.attempts import AttemptLedger
    from rootstream_db.services.mfa.changes import FactorChanges
    from rootstream_db.services.mfa.webauthn import Assertion, NewPasskey
    from rootstream_db.settings import MfaSettings
    from rootstream_db.unit_of_work import UnitOfWork


PURPOSE: Final = "mfa.passkey"
"""What the data key of public keys is derived for."""


class PasskeyManager:
    """Registers passkeys and takes their signatures.

    Begin and finish are two requests of a browser, and two units of work: a challenge can be
    answered once the unit that began it is committed.
    """

    def __init__(
        self,
        database: Database,
        settings: MfaSettings,
        *,
        keyring: KeyRing,
        ledger: AttemptLedger,
        changes: FactorChanges,
    ) -> None:
        self._database = database
        self._settings = settings
        self._keyring = keyring
        self._ledger = ledger
        self._changes = changes

    @cached_property
    def _party(self) -> RelyingParty:
        return RelyingParty(self._settings)

    def begin_registration(
        self, work: UnitOfWork, user: User, *, label: str = "Passkey"
    ) -> Ceremony:
        """Ask the account's browser to make a passkey.

        Raises:
            ConfigurationError: the settings say nothing of passkeys, or the extra is missing.
            ConflictError: a device of that name is enrolled, or there are too many.
            ValidationError: the label cannot be printed.
        """
        name = check_label(label)
        account = work.users.lock(user.id)
        factors = work.mfa_factors.list_by_user(account.id)
        check_room(factors, name, most=self._settings.max_factors)
        known = [factor for factor in factors if factor.kind is FactorKind.PASSKEY]
        row = self._challenge(
            work,
            ChallengePurpose.REGISTRATION,
            user_id=account.id,
            label=name,
            auth_epoch=account.auth_epoch,
        )
        options = self._party.creation_options(account, row.challenge, known)
        return Ceremony(id=row.id, options=options, expires_at=row.expires_at)

    def finish_registration(
        self,
        work: UnitOfWork,
        ceremony_id: uuid.UUID,
        credential: str,
        *,
        except_session: int | None = None,
    ) -> Factor:
        """Store the passkey that a browser made; sessions end.

        Args:
            work: the unit of work.
            ceremony_id: what ``begin_registration`` returned.
            credential: the browser's answer as JSON (``PublicKeyCredential.toJSON()``).
            except_session: the session that goes on: the one the passkey was made in.

        Raises:
            PasskeyChallengeSpentError: the challenge was answered before, ran out, or the account's
                sessions were ended since.
            PasskeyOriginError: the page was not ours; ``PasskeyRelyingPartyError``,
                ``PasskeyChallengeError``: nor was the site, or the challenge.
            PasskeyError: the answer is malformed.
            ConflictError: the passkey is registered already, or there are too many.
        """
        challenge = self._take(ceremony_id, ChallengePurpose.REGISTRATION)
        user_id, label = challenge.user_id or 0, challenge.label or ""
        try:
            made = self._party.check_creation(credential, challenge.challenge)
        except PasskeyError:
            self._ledger.record(user_id, MfaAttemptMethod.ENROLLMENT, MfaOutcome.WRONG)
            raise
        account = work.users.lock(user_id)
        if account.auth_epoch != challenge.auth_epoch:
            raise _over()
        known = work.mfa_factors.list_by_user(user_id)
        check_room(known, label, most=self._settings.max_factors)
        row = work.mfa_factors.add(self._row(work, user_id, label, made))
        accepted = MfaOutcome.ACCEPTED
        self._ledger.record(user_id, MfaAttemptMethod.ENROLLMENT, accepted, factor_id=row.id)
        self._changes.added(work, account, row, keep=except_session)
        return Factor.of(row)

    def _row(self, work: UnitOfWork, user_id: int, label: str, made: NewPasskey) -> MfaFactor:
        factor_id = uuid.uuid4()
        # Public, but whose it is must not be for those to say who can only write to the table.
        sealed = self._keyring.seal(
            made.public_key, purpose=PURPOSE, context=secret_context(user_id, factor_id)
        )
        return MfaFactor(
            id=factor_id,
            user_id=user_id,
            kind=FactorKind.PASSKEY,
            label=label,
            confirmed_at=work.now,
            credential_id=made.credential_id,
            public_key=sealed,
            public_key_key_id=self._keyring.key_id(sealed),
            sign_count=made.sign_count,
            transports=made.transports,
            aaguid=made.aaguid,
            backup_eligible=made.backup_eligible,
            backed_up=made.backed_up,
        )

    def begin_authentication(self, work: UnitOfWork, user: User | None = None) -> Ceremony:
        """Ask for a signature: of one of the account's passkeys, or of whoever is there.

        Without an account the passkey is the only factor, so it has to verify its user.
        """
        user_id = user.id if user is not None else None
        known = (
            work.mfa_factors.list_confirmed(user_id, FactorKind.PASSKEY)
            if user_id is not None
            else ()
        )
        row = self._challenge(work, ChallengePurpose.AUTHENTICATION, user_id=user_id)
        options = self._party.request_options(row.challenge, known, verify_user=user is None)
        return Ceremony(id=row.id, options=options, expires_at=row.expires_at)

    def finish_authentication(
        self, work: UnitOfWork, ceremony_id: uuid.UUID, credential: str
    ) -> MfaProof:
        """Take a passkey's signature; the proof says whose it is.

        A passkey that verified its user makes the level ``PHISHING_RESISTANT``, another one
        ``MFA``, which it is beside a password.

        Raises:
            PasskeyChallengeSpentError: the challenge was answered before, or ran out.
            PasskeyOriginError: the page was not ours; ``PasskeyRelyingPartyError``,
                ``PasskeyChallengeError``: nor was the site, or the challenge.
            PasskeyClonedError: the passkey's counter did not rise.
            UserNotVerifiedError: the passkey is the only factor and did not verify its user.
            PasskeyError: the answer is malformed, of no passkey we know, or not signed by it.
        """
        challenge = self._take(ceremony_id, ChallengePurpose.AUTHENTICATION)
        assertion, factor = self._identify(work, challenge, credential)
        public_key = self._keyring.open(
            factor.public_key or b"",
            purpose=PURPOSE,
            context=secret_context(factor.user_id, factor.id),
        )
        try:
            self._party.check_context(
                assertion, challenge.challenge, verify_user=challenge.user_id is None
            )
            signed = self._party.check_signature(assertion, challenge.challenge, public_key)
        except PasskeyError:
            self._record(factor, MfaOutcome.WRONG)
            raise
        # Accounts before factors, because a session is to come of it; see ``users.lock``.
        work.users.lock(factor.user_id)
        used = work.mfa_factors.advance_sign_count(
            factor.id,
            user_id=factor.user_id,
            count=signed.sign_count,
            backed_up=signed.backed_up,
            now=work.now,
        )
        if used is None:
            self._record(factor, MfaOutcome.REUSED)
            raise PasskeyClonedError("the passkey's counter did not rise: there may be a copy")
        self._record(factor, MfaOutcome.ACCEPTED)
        level = AssuranceLevel.PHISHING_RESISTANT if signed.user_verified else AssuranceLevel.MFA
        return MfaProof(factor.user_id, MfaMethod.PASSKEY, level, work.now)

    def _challenge(
        self,
        work: UnitOfWork,
        purpose: ChallengePurpose,
        *,
        user_id: int | None,
        label: str | None = None,
        auth_epoch: int | None = None,
    ) -> PasskeyChallenge:
        return work.passkey_challenges.add(
            PasskeyChallenge(
                id=uuid.uuid4(),
                user_id=user_id,
                purpose=purpose,
                challenge=secrets.token_bytes(CHALLENGE_BYTES),
                label=label,
                auth_epoch=auth_epoch,
                expires_at=work.now + self._settings.challenge_ttl,
            )
        )

    def _take(self, ceremony_id: uuid.UUID, purpose: ChallengePurpose) -> PasskeyChallenge:
        """Take a challenge out for good, whatever becomes of the caller's transaction."""
        with self._database.independent() as work:
            row = work.passkey_challenges.take(ceremony_id)
            restored_at, now = work.auth_state.restored_at(), work.now
        if row is not None and row.purpose is purpose and now < row.expires_at:
            # One from before a restore may have been answered already.
            begun_at = row.expires_at - self._settings.challenge_ttl
            if restored_at is None or begun_at > restored_at:
                return row
        if row is not None and row.user_id is not None:
            self._ledger.record(row.user_id, MfaAttemptMethod.PASSKEY, MfaOutcome.EXPIRED)
        raise _over()

    def _identify(
        self, work: UnitOfWork, challenge: PasskeyChallenge, credential: str
    ) -> tuple[Assertion, MfaFactor]:
        """Return an answer and the passkey that it says it is from, if that one was asked."""
        try:
            assertion = self._party.read_assertion(credential)
            return assertion, _asked(work, challenge, assertion)
        except PasskeyError:
            if challenge.user_id is not None:
                self._ledger.record(challenge.user_id, MfaAttemptMethod.PASSKEY, MfaOutcome.WRONG)
            raise

    def _record(self, factor: MfaFactor, outcome: MfaOutcome) -> None:
        method = MfaAttemptMethod.PASSKEY
        self._ledger.record(factor.user_id, method, outcome, factor_id=factor.id)


def _over() -> PasskeyChallengeSpentError:
    return PasskeyChallengeSpentError("this was answered before, or ran out: begin anew")


def _asked(work: UnitOfWork, challenge: PasskeyChallenge, assertion: Assertion) -> MfaFactor:
    factor = work.mfa_factors.find_credential(assertion.credential_id)
    asked = challenge.user_id
    if factor is not None and asked in {None, factor.user_id}:
        handle = assertion.user_handle
        owner = work.users.get_one(factor.user_id)
        # Where the passkey says whose it is, it has to agree; alone, it has to say so.
        if handle == owner.public_id.bytes or (handle is None and asked is not None):
            return factor
    raise PasskeyError("no passkey that was asked for has given this answer")
