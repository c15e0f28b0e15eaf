"""Passkeys: what they prove, and each lie told apart from every other."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import uuid
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from rootstream_db.errors import (
    AuthenticationError,
    ConfigurationError,
    ConflictError,
    PasskeyChallengeError,
    PasskeyChallengeSpentError,
    PasskeyClonedError,
    PasskeyError,
    PasskeyOriginError,
    PasskeyRelyingPartyError,
    UserNotVerifiedError,
)
from rootstream_db.models import FactorKind
from rootstream_db.rootstream import RootStream
from rootstream_db.security.assurance import AssuranceLevel, MfaMethod
from tests.factories import make_user
from tests.fixtures.authenticator import Authenticator, b64, unb64
from tests.fixtures.mfa import attempts_of, together


def test_a_registered_passkey_is_a_second_factor(rs, alice, key):
    with rs.transaction() as work:
        status = rs.mfa.status(work, alice)
        row = work.mfa_factors.get_one(status.factors[0].id)
    assert status.enabled
    assert [(FactorKind.PASSKEY, "Passkey")] == [(one.kind, one.label) for one in status.factors]
    assert (key.credential_id, 1, ["internal", "hybrid"], True, True) == (
        row.credential_id,
        row.sign_count,
        row.transports,
        row.backup_eligible,
        row.backed_up,
    )
    told = [event.event_type for event in rs.events.read("User", str(alice.id))]
    assert ["MfaFactorAdded", "SecurityNoticeDue"] == told


def test_a_passkey_that_verified_its_user_resists_phishing(alice, key, begin, finish, clock):
    ceremony = begin(alice)
    proof = finish(ceremony, key.get(ceremony.options))

    assert (alice.id, MfaMethod.PASSKEY, AssuranceLevel.PHISHING_RESISTANT, clock()) == (
        proof.user_id,
        proof.method,
        proof.level,
        proof.verified_at,
    )


def test_a_passkey_that_did_not_is_a_factor_beside_a_password(alice, key, begin, finish):
    ceremony = begin(alice)
    proof = finish(ceremony, key.get(ceremony.options, verifies_user=False))
    assert AssuranceLevel.MFA is proof.level


def test_a_passkey_alone_says_who_is_there(alice, key, begin, finish):
    ceremony = begin()
    assert [] == json.loads(ceremony.options)["allowCredentials"]
    assert "required" == json.loads(ceremony.options)["userVerification"]
    proof = finish(ceremony, key.get(ceremony.options))
    assert (alice.id, AssuranceLevel.PHISHING_RESISTANT) == (proof.user_id, proof.level)


def test_a_passkey_alone_has_to_verify_its_user(key, begin, finish):
    ceremony = begin()
    with pytest.raises(UserNotVerifiedError):
        finish(ceremony, key.get(ceremony.options, verifies_user=False))


def test_the_options_are_what_browsers_want(alice, key, begin, begin_registration):
    asked = json.loads(begin(alice).options)
    assert ("example.com", 300_000) == (asked["rpId"], asked["timeout"])
    assert [b64(key.credential_id)] == [one["id"] for one in asked["allowCredentials"]]
    assert 32 == len(unb64(asked["challenge"]))

    made = json.loads(begin_registration(alice, "Another").options)
    assert ({"id": "example.com", "name": "RootStream"}, "none") == (
        made["rp"],
        made["attestation"],
    )
    assert [b64(key.credential_id)] == [one["id"] for one in made["excludeCredentials"]]
    # What passkeys tell any site that asks is neither a name nor a number of ours.
    assert alice.public_id.bytes == unb64(made["user"]["id"])


LIES: dict[str, tuple[type[PasskeyError], dict[str, Any]]] = {
    "another origin": (PasskeyOriginError, {"origin": "https://live.example.com.evil.test"}),
    "an origin without TLS": (PasskeyOriginError, {"origin": "http://live.example.com"}),
    "a frame in another page": (PasskeyOriginError, {"cross_origin": True}),
    "another site": (PasskeyRelyingPartyError, {"rp_id": "evil.test"}),
    "another challenge": (PasskeyChallengeError, {"challenge": b64(secrets.token_bytes(32))}),
    "another ceremony": (PasskeyError, {"type": "webauthn.payment"}),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_when_logging_in_is_called_by_its_name(rs, alice, key, begin, finish, lie):
    error, told = LIES[lie]
    ceremony = begin(alice)
    with pytest.raises(PasskeyError) as caught:
        finish(ceremony, key.get(ceremony.options, **told))

    assert error is type(caught.value)
    assert ("passkey", "wrong") == attempts_of(rs, alice)[0]


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_when_registering_is_called_by_its_name(
    rs, alice, begin_registration, finish_registration, lie
):
    error, told = LIES[lie]
    ceremony = begin_registration(alice)
    with pytest.raises(PasskeyError) as caught:
        finish_registration(ceremony, Authenticator().create(ceremony.options, **told))

    assert error is type(caught.value)
    assert [("enrollment", "wrong")] == attempts_of(rs, alice)
    with rs.transaction() as work:
        assert () == rs.mfa.list_factors(work, alice)


def test_the_page_that_imitated_ours_is_named(alice, key, begin, finish):
    ceremony = begin(alice)
    with pytest.raises(PasskeyOriginError) as caught:
        finish(ceremony, key.get(ceremony.options, origin="https://1ive.example.org"))
    assert "https://1ive.example.org" == caught.value.origin


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_counter_that_does_not_rise_tells_of_a_copy(rs, alice, key, begin, finish, count):
    for _ in range(2):
        ceremony = begin(alice)
        finish(ceremony, key.get(ceremony.options))
    assert 3 == key.sign_count
    ceremony = begin(alice)
    with pytest.raises(PasskeyClonedError):
        finish(ceremony, key.get(ceremony.options, sign_count=count))
    assert ("passkey", "reused") == attempts_of(rs, alice)[0]


def test_a_counter_that_falls_to_nothing_tells_of_a_copy(alice, key, begin, finish):
    ceremony = begin(alice)
    with pytest.raises(PasskeyClonedError):
        finish(ceremony, key.get(ceremony.options, sign_count=0))


def test_a_passkey_that_never_counts_is_taken_again_and_again(
    alice, begin, finish, begin_registration, finish_registration
):
    synced = Authenticator(step=0)
    ceremony = begin_registration(alice)
    finish_registration(ceremony, synced.create(ceremony.options))
    for _ in range(3):
        ceremony = begin(alice)
        finish(ceremony, synced.get(ceremony.options))


def test_of_two_answers_with_the_same_count_one_is_let_in(alice, key, begin, finish):
    ceremonies = [begin(alice) for _ in range(10)]
    answers = [key.get(one.options, sign_count=7) for one in ceremonies]
    calls = [partial(finish, *pair) for pair in zip(ceremonies, answers, strict=True)]
    assert {"ok": 1, "auth.passkey_cloned": 9} == together(10, calls)


def test_a_counter_that_nobody_signed_raises_no_alarm(alice, key, begin, finish):
    ceremony = begin(alice)
    stranger = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(PasskeyError) as caught:
        finish(ceremony, key.get(ceremony.options, sign_count=0, key=stranger))
    assert PasskeyError is type(caught.value)


def test_another_key_cannot_sign_for_a_passkey(alice, key, begin, finish):
    ceremony = begin(alice)
    stranger = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(PasskeyError, match="signature"):
        finish(ceremony, key.get(ceremony.options, key=stranger))


@pytest.mark.parametrize("alone", [False, True])
def test_a_passkey_we_do_not_know_lets_nobody_in(alice, key, begin, finish, alone):
    ceremony = begin(None if alone else alice)
    unknown = Authenticator(user_handle=alice.public_id.bytes)
    with pytest.raises(PasskeyError):
        finish(ceremony, unknown.get(ceremony.options))


def test_a_passkey_of_somebody_else_does_not_answer_for_alice(rs, alice, key, begin, finish):
    with rs.transaction() as work:
        bob = make_user(work, username="bob")
    ceremony = begin(bob)
    with pytest.raises(PasskeyError):
        finish(ceremony, key.get(ceremony.options))
    assert [("passkey", "wrong")] == attempts_of(rs, bob)


@pytest.mark.parametrize("handle", [None, b"", b"somebody else's"])
def test_a_passkey_alone_has_to_say_whose_it_is(key, begin, finish, handle):
    ceremony = begin()
    with pytest.raises(PasskeyError):
        finish(ceremony, key.get(ceremony.options, user_handle=handle))


def test_a_removed_passkey_lets_nobody_in(rs, alice, key, begin, finish):
    ceremony = begin(alice)
    with rs.transaction() as work:
        (factor,) = rs.mfa.list_factors(work, alice)
        rs.mfa.unenroll(work, alice, factor.id)
    with pytest.raises(PasskeyError):
        finish(ceremony, key.get(ceremony.options))


def test_a_passkey_is_registered_once(rs, alice, key, begin_registration, finish_registration):
    ceremony = begin_registration(alice, "Again")
    with pytest.raises(ConflictError):
        finish_registration(ceremony, key.create(ceremony.options))


def test_two_devices_have_different_names(alice, key, begin_registration):
    with pytest.raises(ConflictError, match="enrolled already"):
        begin_registration(alice, "Passkey")


@pytest.mark.parametrize(
    "answer",
    ["", "{}", "[]", "null", "\0", "{" * 10_000, '{"id": "' + "A" * 1_000_000 + '"}', "💥"],
    ids=["empty", "object", "list", "null", "NUL", "braces", "megabyte", "emoji"],
)
def test_garbage_is_an_error_of_ours(rs, alice, key, begin, finish, answer):
    with pytest.raises(PasskeyError):
        finish(begin(alice), answer)
    assert ("passkey", "wrong") == attempts_of(rs, alice)[0]


@pytest.mark.parametrize("field", ["clientDataJSON", "authenticatorData", "signature"])
@pytest.mark.parametrize("broken", ["", "!!!", "AAAA", 7, None])
def test_a_broken_answer_is_an_error_of_ours(alice, key, begin, finish, field, broken):
    ceremony = begin(alice)
    answer = json.loads(key.get(ceremony.options))
    answer["response"][field] = broken
    with pytest.raises(AuthenticationError) as caught:
        finish(ceremony, json.dumps(answer))
    assert isinstance(caught.value, PasskeyError)


def test_an_unknown_ceremony_is_told_like_a_spent_one(rs, key, begin):
    with rs.transaction() as work, pytest.raises(PasskeyChallengeSpentError):
        rs.mfa.passkeys.finish_authentication(work, uuid.uuid4(), key.get(begin().options))


def test_settings_without_passkeys_say_what_is_missing(rootstream: RootStream):
    with rootstream.transaction() as work, pytest.raises(ConfigurationError) as caught:
        rootstream.mfa.passkeys.begin_authentication(work)
    assert "mfa.passkey_rp_id" == caught.value.setting


def test_without_the_extra_everything_else_works(rs):
    program = """
import sys
sys.modules["webauthn"] = None
from rootstream_db.errors import ConfigurationError
from rootstream_db.services.mfa.webauthn import RelyingParty
from rootstream_db.settings import MfaSettings
import rootstream_db.services.mfa
try:
    RelyingParty(MfaSettings(passkey_rp_id="a.test", passkey_origins="https://a.test"))
except ConfigurationError as error:
    print(error)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert 'pip install "rootstream-db[webauthn]"' in result.stdout, result.stderr
