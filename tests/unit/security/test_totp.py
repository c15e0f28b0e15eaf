"""One-time codes against the vectors of the RFCs and against pyotp, which others wrote."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootstream_db.security.totp import (
    Totp,
    TotpAlgorithm,
    decode_secret,
    encode_secret,
    hotp,
    is_code,
    new_secret,
)

SHA1, SHA256, SHA512 = TotpAlgorithm.SHA1, TotpAlgorithm.SHA256, TotpAlgorithm.SHA512

SEED = b"12345678901234567890"
"""The seed of both RFCs; for longer hashes it is repeated (RFC 6238, appendix A)."""

RFC_4226 = (
    "755224 287082 359152 969429 338314 254676 287922 162583 399871 520489".split()  # noqa: SIM905 - as the RFC prints them
)
"""Appendix D, counters 0 to 9."""

RFC_6238 = {
    59: ("94287082", "46119246", "90693936"),
    1111111109: ("07081804", "68084774", "25091201"),
    1111111111: ("14050471", "67062674", "99943326"),
    1234567890: ("89005924", "91819424", "93441116"),
    2000000000: ("69279037", "90698825", "38618901"),
    20000000000: ("65353130", "77737706", "47863826"),
}
"""Appendix B: the codes of 8 digits at a time, by SHA-1, SHA-256 and SHA-512."""


def seed(algorithm):
    return (SEED * 4)[: algorithm.secret_bytes]


@pytest.mark.parametrize("counter", range(10))
def test_the_codes_of_rfc_4226_come_out(counter):
    assert RFC_4226[counter] == hotp(SEED, counter)


@pytest.mark.parametrize("algorithm", [SHA1, SHA256, SHA512])
@pytest.mark.parametrize("seconds", RFC_6238)
def test_the_codes_of_rfc_6238_come_out(seconds, algorithm):
    totp = Totp(seed(algorithm), algorithm, digits=8)
    moment = datetime.fromtimestamp(seconds, UTC)
    expected = RFC_6238[seconds][[SHA1, SHA256, SHA512].index(algorithm)]

    assert expected == totp.code(totp.step(moment))
    assert seconds // 30 == totp.match(expected, range(seconds // 30 - 1, seconds // 30 + 2))


@given(
    secret=st.binary(min_size=16, max_size=128),
    step=st.integers(0, 2**40),
    digits=st.integers(6, 8),
    algorithm=st.sampled_from(TotpAlgorithm),
)
def test_any_code_is_the_one_that_pyotp_makes(secret, step, digits, algorithm):
    oracle = pyotp.HOTP(
        encode_secret(secret), digits=digits, digest=getattr(hashlib, algorithm.value.lower())
    )
    assert oracle.at(step) == hotp(secret, step, digits=digits, algorithm=algorithm)


def test_a_match_tells_its_step():
    totp = Totp(SEED)
    assert 1000 == totp.match(totp.code(1000), range(999, 1002))
    assert totp.match(totp.code(998), range(999, 1002)) is None
    assert totp.match(totp.code(1002), range(999, 1002)) is None


def test_of_two_steps_with_the_same_code_the_newer_one_is_told(monkeypatch):
    monkeypatch.setattr(Totp, "code", lambda self, step: "123456")
    assert 7 == Totp(SEED).match("123456", range(5, 8))


@pytest.mark.parametrize("place", [0, 2, 4, None])
def test_the_work_does_not_depend_on_where_the_match_is(monkeypatch, place):
    made = []
    real = Totp.code

    def counted(self, step):
        made.append(step)
        return real(self, step)

    totp = Totp(SEED)
    code = "none" if place is None else totp.code(place)
    monkeypatch.setattr(Totp, "code", counted)

    assert place == totp.match(code, range(5))
    assert list(range(5)) == made


NO_CODES = {
    "Arabic digits": "\u0667\u0665\u0665\u0662\u0662\u0664",
    "full-width digits": "\uff17\uff15\uff15\uff12\uff12\uff14",
    "one full-width digit": "75522\uff14",
    "space inside": "755 24",
    "space before": " 75522",
    "newline after": "75522\n",
    "sign": "+75522",
    "underscore": "7_5522",
    "nothing": "",
    "too short": "75522",
    "too long": "0755224",
    "letter": "75522a",
    "NUL": "75522\0",
    "number": 755224,
    "no text": None,
    "bytes": b"755224",
    "a megabyte": "7" * 1_000_000,
}


@pytest.mark.parametrize("code", NO_CODES.values(), ids=NO_CODES)
def test_what_is_not_six_digits_of_ascii_matches_nothing(code):
    assert not is_code(code, 6)
    assert Totp(SEED).match(code, range(3)) is None


def test_new_secrets_are_as_long_as_the_hash_and_never_repeat():
    assert [20, 32, 64] == [len(new_secret(one)) for one in (SHA1, SHA256, SHA512)]
    assert 100 == len({new_secret() for _ in range(100)})


@given(secret=st.binary(min_size=16, max_size=128))
def test_a_secret_can_be_typed(secret):
    text = encode_secret(secret)
    spaced = " ".join(text[place : place + 4] for place in range(0, len(text), 4))

    assert secret == decode_secret(text) == decode_secret(spaced.lower())


@pytest.mark.parametrize("text", ["", "GEZDGNBV", "0189" * 8, "ü" * 32, "GEZDGNBVGY3TQOJQ" * 20])
def test_a_secret_that_is_none_is_refused_without_showing_it(text):
    with pytest.raises(ValueError, match="a shared secret") as caught:
        decode_secret(text)
    assert not text or text not in str(caught.value)


@pytest.mark.parametrize("algorithm", [SHA1, SHA256, SHA512])
@pytest.mark.parametrize(("digits", "period"), [(6, 30), (8, 60)])
def test_the_address_of_an_enrolment_is_read_by_pyotp(algorithm, digits, period):
    totp = Totp(seed(algorithm), algorithm, digits, period)
    uri = totp.uri(issuer="Live & Söhne: TV", account="alice@example.com")
    parsed = pyotp.parse_uri(uri)

    assert isinstance(parsed, pyotp.TOTP)
    assert ("Live & Söhne: TV", "alice@example.com") == (parsed.issuer, parsed.name)
    assert (totp.code(5), period) == (parsed.generate_otp(5), parsed.interval)


def test_the_address_is_the_one_that_pyotp_would_write():
    ours = urlsplit(Totp(SEED).uri(issuer="RootStream", account="alice"))
    theirs = urlsplit(
        pyotp.TOTP(encode_secret(SEED)).provisioning_uri(name="alice", issuer_name="RootStream")
    )
    assert (theirs.scheme, theirs.netloc, theirs.path) == (ours.scheme, ours.netloc, ours.path)
    assert parse_qs(theirs.query) == parse_qs(ours.query)


def test_a_secret_does_not_show_itself():
    totp = Totp(SEED)
    shown = f"{totp!r} {totp.uri(issuer='a', account='b')!r} {encode_secret(SEED)!r}"
    assert "1234567890" not in shown
    assert str(encode_secret(SEED)) not in shown
