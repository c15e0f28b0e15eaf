"""What an ID token of OpenID Connect has to say to be believed. Pure: no clock, no I/O.

The rules are those of OpenID Connect Core 1.0, section 3.1.3.7, in the order given there; the
signature has been verified before.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from rootstream_db.errors import IdTokenError
from rootstream_db.models.access import MAX_SUBJECT

PROVED: Final = (True, "true")
"""How issuers say that they have proved an address; some send text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a token is held against.

    Attributes:
        issuer: who must have made it.
        client_id: whom it must be made for.
        other_audiences: who else it may be made for.
        nonce: what the request for it carried; None: nothing.
        leeway: by how much clocks may differ.
        max_age: how long ago it may have been made.
    """

    issuer: str
    client_id: str
    other_audiences: Collection[str]
    nonce: str | None
    leeway: timedelta
    max_age: timedelta


def check_claims(claims: Mapping[str, Any], expected: Expected, now: datetime) -> None:
    """Make sure that a token is from there, for us, of now, and the answer to our request.

    Raises:
        IdTokenError: it is not; ``reason`` names the claim.
    """
    if claims.get("iss") != expected.issuer:
        raise IdTokenError("iss")
    _check_audience(claims, expected)
    _check_times(claims, expected, now)
    _check_nonce(claims.get("nonce"), expected.nonce)
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT:
        raise IdTokenError("sub")
    if not (subject.isascii() and subject.isprintable()):
        raise IdTokenError("sub")


def proved_email(claims: Mapping[str, Any]) -> tuple[str | None, bool]:
    """Return the address of the claims, and whether the issuer has proved it."""
    email = claims.get("email")
    if not isinstance(email, str) or not email:
        return None, False
    said = claims.get("email_verified")
    return email, any(said is one or (said == one and isinstance(said, str)) for one in PROVED)


def _check_audience(claims: Mapping[str, Any], expected: Expected) -> None:
    stated = claims.get("aud")
    audiences = [stated] if isinstance(stated, str) else stated
    if not isinstance(audiences, list) or expected.client_id not in audiences:
        raise IdTokenError("aud")
    others = [one for one in audiences if one != expected.client_id]
    if any(one not in expected.other_audiences for one in others):
        raise IdTokenError("aud")
    authorized = claims.get("azp")
    if authorized != expected.client_id and (others or authorized is not None):
        raise IdTokenError("azp")


def _check_times(claims: Mapping[str, Any], expected: Expected, now: datetime) -> None:
    leeway, moment = expected.leeway.total_seconds(), now.timestamp()
    if moment >= _number(claims, "exp") + leeway:
        raise IdTokenError("exp")
    age = moment - _number(claims, "iat")
    if not -leeway <= age <= expected.max_age.total_seconds() + leeway:
        raise IdTokenError("iat")
    if "nbf" in claims and moment < _number(claims, "nbf") - leeway:
        raise IdTokenError("nbf")


def _number(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise IdTokenError(name)
    return float(value)


def _check_nonce(stated: object, expected: str | None) -> None:
    if expected is None:
        # Made for a request of somebody else's: ours carried none.
        if stated is not None:
            raise IdTokenError("nonce")
        return
    if not isinstance(stated, str):
        raise IdTokenError("nonce")
    known, given = expected.encode(), stated.encode("utf-8", "surrogatepass")
    if not hmac.compare_digest(known, given):
        raise IdTokenError("nonce")
