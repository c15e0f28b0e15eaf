"""Passkeys' answers, checked: each thing that can be wrong is an error of its own. No I/O.

The library checks all of it too, and the signature; but it has one error for everything, and who
runs a site wants to tell a page that imitates theirs from a mistyped setting.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rootstream_db.errors import (
    ConfigurationError,
    PasskeyChallengeError,
    PasskeyError,
    PasskeyOriginError,
    PasskeyRelyingPartyError,
    UserNotVerifiedError,
)

if TYPE_CHECKING:
    from webauthn.helpers.structs import AuthenticatorData

    from rootstream_db.models import MfaFactor, User
    from rootstream_db.settings import MfaSettings

MOST_BYTES: Final = 64 * 1024
"""Longest answer that is read; a real one has a few thousand bytes."""

_MAX_ORIGIN: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPasskey:
    """What a passkey said of itself when it was made."""

    credential_id: bytes
    public_key: bytes
    sign_count: int
    transports: list[str]
    aaguid: uuid.UUID
    backup_eligible: bool
    backed_up: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """An answer that was read; nothing of it is verified yet."""

    credential_id: bytes
    user_handle: bytes | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """What a passkey said, and signed."""

    sign_count: int
    backed_up: bool
    user_verified: bool


class RelyingParty:
    """Us, as passkeys see us: a domain, and the pages on it.

    Raises:
        ConfigurationError: the settings say nothing of passkeys, or the extra is not installed.
    """

    def __init__(self, settings: MfaSettings) -> None:
        if settings.passkey_rp_id is None or not settings.passkey_origins:
            raise ConfigurationError(
                "passkeys need mfa.passkey_rp_id, the domain they are made for, and "
                "mfa.passkey_origins, the pages that may use them",
                setting="mfa.passkey_rp_id",
            )
        try:
            import webauthn
        except ImportError as error:
            raise ConfigurationError(
                'passkeys need the extra "webauthn": pip install "rootstream-db[webauthn]"'
            ) from error
        self._webauthn = webauthn
        self._id = settings.passkey_rp_id
        self._origins = list(settings.passkey_origins)
        self._name = settings.issuer
        self._timeout = int(settings.challenge_ttl.total_seconds() * 1000)

    def creation_options(self, user: User, challenge: bytes, known: Iterable[MfaFactor]) -> str:
        """Return what a browser passes to ``navigator.credentials.create()``."""
        from webauthn.helpers import structs

        options = self._webauthn.generate_registration_options(
            rp_id=self._id,
            rp_name=self._name,
            user_name=user.username,
            # What passkeys show to every site that asks must tell nothing about anybody.
            user_id=user.public_id.bytes,
            user_display_name=user.display_name or user.username,
            challenge=challenge,
            timeout=self._timeout,
            authenticator_selection=structs.AuthenticatorSelectionCriteria(
                resident_key=structs.ResidentKeyRequirement.PREFERRED,
                user_verification=structs.UserVerificationRequirement.PREFERRED,
            ),
            exclude_credentials=_descriptors(known),
        )
        return self._webauthn.options_to_json(options)

    def request_options(
        self, challenge: bytes, known: Iterable[MfaFactor], *, verify_user: bool
    ) -> str:
        """Return what a browser passes to ``navigator.credentials.get()``."""
        from webauthn.helpers import structs

        requirement = structs.UserVerificationRequirement
        options = self._webauthn.generate_authentication_options(
            rp_id=self._id,
            challenge=challenge,
            timeout=self._timeout,
            allow_credentials=_descriptors(known),
            user_verification=requirement.REQUIRED if verify_user else requirement.PREFERRED,
        )
        return self._webauthn.options_to_json(options)

    def check_creation(self, text: str, challenge: bytes) -> NewPasskey:
        """Return the passkey that was made in answer to a challenge."""
        from webauthn import helpers

        parsed = _read(lambda: helpers.parse_registration_credential_json(_bounded(text)))
        self._check_client(parsed.response.client_data_json, challenge)
        sent = parsed.response.attestation_object
        data = _read(lambda: helpers.parse_attestation_object(sent).auth_data)
        self._check_authenticator(data, verify_user=False)
        verified = _read(
            lambda: self._webauthn.verify_registration_response(
                credential=parsed,
                expected_challenge=challenge,
                expected_rp_id=self._id,
                expected_origin=self._origins,
            )
        )
        return NewPasskey(
            credential_id=verified.credential_id,
            public_key=verified.credential_public_key,
            sign_count=verified.sign_count,
            transports=[one.value for one in parsed.response.transports or ()],
            aaguid=uuid.UUID(verified.aaguid),
            backup_eligible=data.flags.be,
            backed_up=verified.credential_backed_up,
        )

    def read_assertion(self, text: str) -> Assertion:
        """Return which passkey an answer says it is from."""
        from webauthn import helpers

        parsed = _read(lambda: helpers.parse_authentication_credential_json(_bounded(text)))
        return Assertion(
            credential_id=parsed.raw_id, user_handle=parsed.response.user_handle, text=text
        )

    def check_context(self, assertion: Assertion, challenge: bytes, *, verify_user: bool) -> None:
        """Make sure that an answer is to this challenge, from our pages, for our site."""
        from webauthn import helpers

        parsed = helpers.parse_authentication_credential_json(assertion.text)
        self._check_client(parsed.response.client_data_json, challenge)
        sent = parsed.response.authenticator_data
        data = _read(lambda: helpers.parse_authenticator_data(sent))
        self._check_authenticator(data, verify_user=verify_user)

    def check_signature(self, assertion: Assertion, challenge: bytes, public_key: bytes) -> Signed:
        """Return what a passkey said, if it was this passkey that said it."""
        # The counter is compared where it is stored, after the signature: one that nobody signed
        # is no sign of a copy.
        verified = _read(
            lambda: self._webauthn.verify_authentication_response(
                credential=assertion.text,
                expected_challenge=challenge,
                expected_rp_id=self._id,
                expected_origin=self._origins,
                credential_public_key=public_key,
                credential_current_sign_count=0,
            )
        )
        return Signed(
            sign_count=verified.new_sign_count,
            backed_up=verified.credential_backed_up,
            user_verified=verified.user_verified,
        )

    def _check_client(self, raw: bytes, challenge: bytes) -> None:
        from webauthn import helpers

        said = _read(lambda: helpers.parse_client_data_json(raw))
        if said.origin not in self._origins or said.cross_origin:
            origin = str(said.origin)[:_MAX_ORIGIN]
            raise PasskeyOriginError(f"the passkey was used on {origin!r}", origin=origin)
        if not hmac.compare_digest(said.challenge, challenge):
            raise PasskeyChallengeError("the passkey answered another challenge")

    def _check_authenticator(self, data: AuthenticatorData, *, verify_user: bool) -> None:
        expected = hashlib.sha256(self._id.encode()).digest()
        if not hmac.compare_digest(data.rp_id_hash, expected):
            raise PasskeyRelyingPartyError("the passkey answered for another site")
        if verify_user and not data.flags.uv:
            raise UserNotVerifiedError(
                "the passkey did not verify its user, which it has to when it is the only factor"
            )


def _read(parse: Any) -> Any:
    """Return what the library makes of an answer, whatever it raises as our error."""
    try:
        return parse()
    except Exception as error:
        # Bytes of anybody's are parsed here, by several parsers, each with errors of its own.
        raise PasskeyError(f"the passkey's answer cannot be accepted: {error}"[:500]) from error


def _bounded(text: str) -> str:
    if len(text) > MOST_BYTES:
        raise PasskeyError(f"the passkey's answer is longer than {MOST_BYTES} characters")
    return text


def _descriptors(known: Iterable[MfaFactor]) -> list[Any]:
    from webauthn.helpers import structs

    transports = {one.value: one for one in structs.AuthenticatorTransport}
    return [
        structs.PublicKeyCredentialDescriptor(
            id=factor.credential_id or b"",
            transports=[transports[one] for one in factor.transports or () if one in transports],
        )
        for factor in known
    ]
