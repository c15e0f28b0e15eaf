"""ID tokens of other sites: who made them, for whom, when, and with which key."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from datetime import timedelta

import pytest

from rootstream_db.errors import IdTokenError, ValidationError
from rootstream_db.services.access import OidcProvider
from tests.fixtures.id_tokens import GOOD, ISSUER, NONCE, NOW, make_verifier, reason_of
from tests.fixtures.issuer import SigningKey, assembled, b64, hs256


def test_a_true_token_says_who_somebody_is(verifier, key):
    found = verifier.verify(key.token(GOOD), nonce=NONCE)

    assert (ISSUER, "248289761001") == (found.issuer, found.subject)
    assert ("jane@example.com", True) == (found.email, found.email_verified)
    assert GOOD == dict(found.claims)
    assert "jane" in repr(found)
    assert "n-0S6" not in repr(found)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_each_kind_of_key_signs(server, clock, algorithm):
    made = SigningKey(algorithm, "k")
    server.keys = [made.jwk]
    verifier = make_verifier(server, clock, algorithms=(algorithm,))

    assert verifier.verify(made.token(GOOD), nonce=NONCE).subject == GOOD["sub"]
    changed = made.token(GOOD).split(".")
    changed[1] = b64(json.dumps({**GOOD, "sub": "1"}).encode())
    assert "signature" == reason_of(verifier, ".".join(changed))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iss": "https://id.example.com/"}, "iss"),
        ({"iss": None}, "iss"),
        ({"aud": "other"}, "aud"),
        ({"aud": []}, "aud"),
        ({"aud": ["studio", "other"], "azp": "studio"}, "aud"),
        ({"aud": {"studio": 1}}, "aud"),
        ({"aud": None}, "aud"),
        ({"azp": "other"}, "azp"),
        ({"exp": NOW - 60}, "exp"),
        ({"exp": None}, "exp"),
        ({"exp": str(NOW + 300)}, "exp"),
        ({"exp": True}, "exp"),
        ({"iat": NOW + 61}, "iat"),
        ({"iat": NOW - 661}, "iat"),
        ({"iat": None}, "iat"),
        ({"nbf": NOW + 61}, "nbf"),
        ({"nbf": "soon"}, "nbf"),
        ({"nonce": "another"}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"nonce": 7}, "nonce"),
        ({"sub": ""}, "sub"),
        ({"sub": None}, "sub"),
        ({"sub": 7}, "sub"),
        ({"sub": "x" * 256}, "sub"),
        ({"sub": "a\u0000b"}, "sub"),
    ],
    ids=str,
)
def test_a_claim_that_is_wrong_or_missing_is_named(verifier, key, changes, reason):
    claims = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}

    assert reason == reason_of(verifier, key.token(claims))


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": NOW - 59},
        {"iat": NOW + 60},
        {"iat": NOW - 660},
        {"nbf": NOW + 60},
        {"azp": "studio"},
        {"aud": ["studio"]},
        {"exp": NOW + 0.5},
    ],
    ids=str,
)
def test_clocks_may_differ_by_a_minute_and_audiences_be_lists(verifier, key, changes):
    verifier.verify(key.token({**GOOD, **changes}), nonce=NONCE)


def test_a_token_is_not_good_for_ever(verifier, key, clock):
    token = key.token({**GOOD, "exp": NOW + 86400})
    clock.advance(659)
    verifier.verify(token, nonce=NONCE)
    clock.advance(2)

    assert "iat" == reason_of(verifier, token)


def test_other_audiences_count_where_they_are_known_and_the_token_was_asked_for_by_us(
    server, key, clock
):
    verifier = make_verifier(server, clock, other_audiences=frozenset({"api"}))
    both = {**GOOD, "aud": ["studio", "api"]}

    verifier.verify(key.token({**both, "azp": "studio"}), nonce=NONCE)
    assert "azp" == reason_of(verifier, key.token(both))
    assert "azp" == reason_of(verifier, key.token({**both, "azp": "api"}))


def test_a_nonce_that_nobody_sent_is_refused(verifier, key):
    bare = {name: value for name, value in GOOD.items() if name != "nonce"}

    verifier.verify(key.token(bare), nonce=None)
    assert "nonce" == reason_of(verifier, key.token(GOOD), nonce=None)
    assert "nonce" == reason_of(verifier, key.token(bare), nonce=NONCE)


@pytest.mark.parametrize(
    ("said", "proved"),
    [(True, True), ("true", True), (False, False), ("false", False), (1, False), (None, False)],
    ids=str,
)
def test_an_address_is_proved_only_if_the_issuer_says_so(verifier, key, said, proved):
    claims = {**GOOD, "email_verified": said}

    assert proved is verifier.verify(key.token(claims), nonce=NONCE).email_verified


def test_a_token_without_an_address_has_none(verifier, key):
    for email in (None, "", 7, ["jane@example.com"]):
        found = verifier.verify(key.token({**GOOD, "email": email}), nonce=NONCE)
        assert (None, False) == (found.email, found.email_verified)


def test_no_signature_is_no_token(verifier, key):
    unsigned = assembled(GOOD, lambda _: b"", {"alg": "none"})
    assert "alg" == reason_of(verifier, unsigned)
    assert "alg" == reason_of(verifier, assembled(GOOD, lambda _: b"", {"alg": "None"}))
    assert "signature" == reason_of(verifier, key.token(GOOD).rpartition(".")[0] + ".")


def test_a_public_key_is_no_shared_secret(verifier, key):
    for secret in (key.pem, key.pem.strip(), json.dumps(key.jwk).encode()):
        forged = assembled(GOOD, hs256(secret), {"alg": "HS256", "kid": "one"})
        assert "alg" == reason_of(verifier, forged)
        disguised = assembled(GOOD, hs256(secret), {"alg": "RS256", "kid": "one"})
        assert "signature" == reason_of(verifier, disguised)


def test_algorithms_with_a_shared_secret_cannot_be_allowed(server):
    for algorithms in (("none",), ("HS256",), ("RS256", "HS512"), ()):
        with pytest.raises(ValidationError, match="are signed by one of RS256"):
            OidcProvider(issuer=ISSUER, client_id="x", jwks_uri=server.url, algorithms=algorithms)


def test_an_algorithm_that_was_not_allowed_is_refused_though_the_key_is_known(server, clock):
    made = SigningKey("ES256", "k")
    server.keys = [made.jwk]

    assert "alg" == reason_of(make_verifier(server, clock), made.token(GOOD))


def test_a_shared_secret_among_the_published_keys_is_not_used(server, verifier):
    secret = {"kty": "oct", "k": b64(b"s" * 32), "kid": "shared"}
    server.keys = [secret]
    forged = assembled(GOOD, hs256(b"s" * 32), {"alg": "RS256", "kid": "shared"})

    assert "kid" == reason_of(verifier, forged)


def test_keys_that_the_token_itself_brings_are_not_used(verifier, other_key):
    token = other_key.token(GOOD, kid="one", jwk=other_key.jwk, jku="http://127.0.0.1:1/keys")

    assert "signature" == reason_of(verifier, token)


def test_a_header_that_has_to_be_understood_and_is_not_is_refused(verifier, key):
    assert "form" == reason_of(verifier, key.token(GOOD, crit=["exp"], exp=NOW))


def test_a_key_for_something_else_is_not_used(server, verifier, key):
    for change in ({"use": "enc"}, {"alg": "PS256"}, {"kty": "EC"}, {"kid": "x"}):
        server.keys = [{**key.jwk, **change}]
        assert "kid" == reason_of(make_verifier(server, verifier._clock), key.token(GOOD))


def test_a_key_that_is_too_short_or_broken_is_not_used(server, clock):
    short = SigningKey("RS256", "one", bits=1024)
    for jwk in (short.jwk, {**short.jwk, "n": "*"}, {**short.jwk, "e": "AA"}):
        server.keys = [jwk]
        assert "key" == reason_of(make_verifier(server, clock), short.token(GOOD))


def test_a_token_that_names_no_key_is_believed_only_without_a_choice(server, key, other_key, clock):
    token = key.token(GOOD, kid=None)
    make_verifier(server, clock).verify(token, nonce=NONCE)

    server.keys = [key.jwk, other_key.jwk]
    assert "kid" == reason_of(make_verifier(server, clock), token)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b.c",
        "...",
        "a" * 20_000,
        "é.é.é",
        None,
        7,
        b"a.b.c",
        "\0",
        "eyJhbGciOiJSUzI1NiJ9.e30",
    ],
    ids=lambda token: str(token)[:12],
)
def test_garbage_is_refused(verifier, server, token):
    assert reason_of(verifier, token) in {"form", "kid"}


def test_a_payload_that_is_no_object_is_refused(verifier, key):
    for payload in (b"[]", b"null", b"nonsense", b'{"exp": Infinity}', b'{"exp": NaN}', b"\xff"):
        assert "form" == reason_of(verifier, key.token(payload))


def test_a_token_with_any_byte_changed_is_refused(verifier, key):
    parts = [base64.urlsafe_b64decode(part + "==") for part in key.token(GOOD).split(".")]
    for place, part in enumerate(parts):
        for position in range(0, len(part), 7):
            changed = list(parts)
            changed[place] = part[:position] + bytes([part[position] ^ 1]) + part[position + 1 :]
            with pytest.raises(IdTokenError):
                verifier.verify(".".join(map(b64, changed)), nonce=NONCE)


def test_a_verified_token_logs_in(rootstream, key, verifier):
    found = verifier.verify(key.token(GOOD), nonce=NONCE)
    with rootstream.transaction() as work:
        jane = rootstream.accounts.register(
            work, username="jane", email="jane@example.com", password=None
        )
        who = {"email": found.email, "email_verified": found.email_verified}
        identities = rootstream.access.identities
        identities.link(work, jane, found.issuer, found.subject, **who)
        assert jane.id == identities.login_or_link(work, found.issuer, found.subject, **who).id


def test_without_the_extra_the_error_says_what_to_install():
    program = (
        "import sys; sys.modules['jwt'] = None\n"
        "from rootstream_db.services.access import OidcProvider, OidcVerifier\n"
        "provider = OidcProvider(issuer='i', client_id='c', jwks_uri='https://i/')\n"
        "OidcVerifier(provider).verify('a.b.c', nonce=None)"
    )
    failed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert "pip install 'rootstream-db[oidc]'" in failed.stderr
    assert "ConfigurationError" in failed.stderr


def test_a_token_too_old_by_its_own_account_is_refused_whatever_max_age_is(server, key, clock):
    verifier = make_verifier(server, clock, max_age=timedelta(days=9), leeway=timedelta(0))
    clock.advance(300)

    assert "exp" == reason_of(verifier, key.token(GOOD))
