"""OpenID Connect: an ID token of another site, verified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final

import orjson

from rootstream_db.clock import Clock, utc_now
from rootstream_db.errors import ConfigurationError, IdTokenError, ValidationError
from rootstream_db.services.access.id_tokens import Expected, check_claims, proved_email
from rootstream_db.services.access.jwks import (
    Fetch,
    Jwk,
    KeySetCache,
    check_url,
    fetch_document,
)

MAX_TOKEN: Final = 16 * 1024
"""Characters of the longest token that is looked at."""

KEY_TYPES: Final[Mapping[str, tuple[str, str | None]]] = MappingProxyType(
    {
        **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", None)),
        "ES256": ("EC", "P-256"),
        "ES384": ("EC", "P-384"),
        "ES512": ("EC", "P-521"),
        "EdDSA": ("OKP", "Ed25519"),
    }
)
"""Algorithms that may be allowed, and the kind of key each one takes: public keys only.

``none`` is not among them, nor is any algorithm with a shared secret, which somebody could use with
a public key as the secret.
"""

_LEAST_RSA_BITS: Final = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcProvider:
    """A site whose ID tokens are accepted.

    Attributes:
        issuer: its name, exactly as its tokens say it.
        client_id: the name that it gave to this application.
        jwks_uri: where its keys are.
        algorithms: how its tokens may be signed.
        other_audiences: who else its tokens may be made for.
        leeway: by how much its clock may differ.
        max_age: how long ago a token may have been made.

    Raises:
        ValidationError: an algorithm is not to be trusted, or an address is not https.
    """

    issuer: str
    client_id: str
    jwks_uri: str
    algorithms: tuple[str, ...] = ("RS256",)
    other_audiences: frozenset[str] = frozenset()
    leeway: timedelta = timedelta(seconds=60)
    max_age: timedelta = timedelta(minutes=10)

    def __post_init__(self) -> None:
        check_url(self.jwks_uri)
        refused = sorted(set(self.algorithms) - KEY_TYPES.keys())
        if refused or not self.algorithms:
            raise ValidationError(
                f"ID tokens are signed by one of {', '.join(KEY_TYPES)}, not by {refused}",
                field="algorithms",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcIdentity:
    """Who somebody is at another site, as a verified token says.

    Attributes:
        issuer: the site.
        subject: who it is there.
        email: the address known there, if the token says it.
        email_verified: whether the site has proved that address.
        claims: all that the token says.
    """

    issuer: str
    subject: str
    email: str | None
    email_verified: bool
    claims: Mapping[str, Any] = field(repr=False)


class OidcVerifier:
    """Verifies the ID tokens of one site; make one for each site and keep it.

    Needs the extra ``oidc``.

    Args:
        provider: the site.
        fetch: how its keys are fetched.
        clock: the source of the current time.
    """

    def __init__(
        self,
        provider: OidcProvider,
        *,
        fetch: Fetch = fetch_document,
        clock: Clock = utc_now,
    ) -> None:
        self.provider = provider
        self._clock = clock
        self._keys = KeySetCache(provider.jwks_uri, fetch, clock)

    def verify(self, id_token: str, *, nonce: str | None) -> OidcIdentity:
        """Return who the token says somebody is, if it is true.

        Args:
            id_token: what the site sent.
            nonce: what the request for it carried, kept with the visitor's session; None: nothing.

        Raises:
            IdTokenError: it is not to be believed; ``reason`` says what about it is wrong.
            IdentityProviderError: the site's keys cannot be had; try again later.
            ConfigurationError: the extra ``oidc`` is not installed.
        """
        claims = self._signed_claims(id_token)
        provider = self.provider
        expected = Expected(
            issuer=provider.issuer,
            client_id=provider.client_id,
            other_audiences=provider.other_audiences,
            nonce=nonce,
            leeway=provider.leeway,
            max_age=provider.max_age,
        )
        check_claims(claims, expected, self._clock())
        email, proved = proved_email(claims)
        return OidcIdentity(
            issuer=provider.issuer,
            subject=claims["sub"],
            email=email,
            email_verified=proved,
            claims=MappingProxyType(claims),
        )

    def _signed_claims(self, token: object) -> dict[str, Any]:
        """Return what a token says if one of the site's keys signed it."""
        jwt = _library()
        if not isinstance(token, str) or len(token) > MAX_TOKEN or not token.isascii():
            raise IdTokenError("form")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError as error:
            raise IdTokenError("form") from error
        algorithm = header.get("alg")
        if algorithm not in self.provider.algorithms:
            raise IdTokenError("alg")
        candidates = self._candidates(algorithm, header.get("kid"))
        for key in candidates:
            try:
                payload = jwt.api_jws.decode_complete(
                    token, _public_key(key, algorithm), algorithms=[algorithm]
                )["payload"]
            except jwt.InvalidSignatureError:
                continue
            except jwt.InvalidTokenError as error:
                raise IdTokenError("form") from error
            return _object(payload)
        raise IdTokenError("signature")

    def _candidates(self, algorithm: str, kid: object) -> list[Jwk]:
        """Return the site's keys that a token of that header may be signed with."""
        kind, curve = KEY_TYPES[algorithm]

        def fits(key: Jwk) -> bool:
            return (
                key.get("kty") == kind
                and key.get("crv") == curve
                and key.get("alg", algorithm) == algorithm
                and key.get("use", "sig") == "sig"
                and (kid is None or key.get("kid") == kid)
            )

        found = self._keys.find(fits)
        # A token that names no key is believed only where there is no choice.
        if not found or (kid is None and len(found) > 1):
            raise IdTokenError("kid")
        return found


def _library() -> Any:
    try:
        import jwt
    except ImportError as error:
        raise ConfigurationError(
            "ID tokens need PyJWT: pip install 'rootstream-db[oidc]'", setting="oidc"
        ) from error
    return jwt


def _public_key(key: Jwk, algorithm: str) -> Any:
    jwt = _library()
    try:
        made = jwt.PyJWK(key, algorithm=algorithm)
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise IdTokenError("key") from error
    if KEY_TYPES[algorithm][0] == "RSA" and made.key.key_size < _LEAST_RSA_BITS:
        raise IdTokenError("key")
    return made


def _object(payload: bytes) -> dict[str, Any]:
    try:
        claims = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise IdTokenError("form") from error
    if not isinstance(claims, dict):
        raise IdTokenError("form")
    return claims
