"""The keys of other sites: fetched, kept, changed, withdrawn, unreachable."""

from __future__ import annotations

import json

import pytest

from rootstream_db.errors import IdentityProviderError, ValidationError
from rootstream_db.services.access import OidcProvider, OidcVerifier
from rootstream_db.services.access.jwks import MAX_BYTES, check_url, fetch_document
from tests.fixtures.id_tokens import GOOD, ISSUER, NONCE, NOW, reason_of


def test_a_new_key_is_fetched_when_a_token_names_it_and_a_withdrawn_one_dies(
    server, verifier, key, other_key, clock
):
    verifier.verify(key.token(GOOD), nonce=NONCE)
    server.keys = [other_key.jwk]
    clock.advance(30)

    verifier.verify(other_key.token(GOOD), nonce=NONCE)
    assert "kid" == reason_of(verifier, key.token(GOOD))


def test_a_withdrawn_key_counts_for_an_hour_at_most(server, verifier, key, other_key, clock):
    verifier.verify(key.token(GOOD), nonce=NONCE)
    server.keys = [other_key.jwk]
    clock.advance(3599)
    verifier.verify(key.token({**GOOD, "exp": NOW + 9000, "iat": NOW + 3599}), nonce=NONCE)
    clock.advance(1)

    late = {**GOOD, "exp": NOW + 9000, "iat": NOW + 3600}
    assert "kid" == reason_of(verifier, key.token(late))


def test_unknown_keys_do_not_make_us_fetch_again_and_again(server, verifier, other_key, clock):
    for _ in range(20):
        assert "kid" == reason_of(verifier, other_key.token(GOOD))
        clock.advance(1)

    assert 1 == server.requests


def test_known_keys_count_for_a_day_while_the_issuer_is_down(server, verifier, key, clock, caplog):
    verifier.verify(key.token(GOOD), nonce=NONCE)
    server.answer = (503, b"")
    for hours in (2, 23):
        later = NOW + hours * 3600
        clock.advance(later - clock().timestamp())
        token = key.token({**GOOD, "iat": later, "exp": later + 60})
        verifier.verify(token, nonce=NONCE)
    assert "old ones count" in caplog.text

    clock.advance(3600)
    with pytest.raises(IdentityProviderError, match="HTTP Error 503") as caught:
        verifier.verify(key.token(GOOD), nonce=NONCE)
    assert caught.value.retryable
    with pytest.raises(IdentityProviderError, match="could not be fetched just now"):
        verifier.verify(key.token(GOOD), nonce=NONCE)
    assert server.url == caught.value.url


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((200, b"nonsense"), "is no set of keys"),
        ((200, b"[]"), "is no set of keys"),
        ((200, b'{"keys": 7}'), "is no set of at most 100 keys"),
        ((200, json.dumps({"keys": [{}] * 101}).encode()), "is no set of at most 100 keys"),
        ((200, b" " * (MAX_BYTES + 1)), "is too long"),
        ((404, b""), "HTTP Error 404"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_set_of_keys_is_told(server, verifier, key, answer, message):
    server.answer = answer
    with pytest.raises(IdentityProviderError, match=message):
        verifier.verify(key.token(GOOD), nonce=NONCE)


def test_redirects_are_not_followed(server, verifier, key):
    server.answer, server.location = (302, b""), server.url
    with pytest.raises(IdentityProviderError, match="302"):
        verifier.verify(key.token(GOOD), nonce=NONCE)
    assert 1 == server.requests


def test_an_issuer_that_does_not_listen_is_told():
    with pytest.raises(IdentityProviderError, match="cannot be fetched"):
        fetch_document("http://127.0.0.1:1/keys")


@pytest.mark.parametrize(
    "url",
    [
        "http://id.example.com/keys",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "",
        "https://",
        "https://user@id.example.com/",
        "http://127.0.0.1.example.com/",
    ],
)
def test_keys_come_over_https_or_from_this_machine(url):
    with pytest.raises(ValidationError, match="addresses are https"):
        check_url(url)


def test_an_application_may_fetch_the_keys_itself(key, clock):
    asked = []

    def fetch(url):
        asked.append(url)
        return json.dumps({"keys": [key.jwk]}).encode()

    provider = OidcProvider(issuer=ISSUER, client_id="studio", jwks_uri="https://id.example.com/k")
    verifier = OidcVerifier(provider, fetch=fetch, clock=clock)
    for _ in range(3):
        verifier.verify(key.token(GOOD), nonce=NONCE)

    assert ["https://id.example.com/k"] == asked
