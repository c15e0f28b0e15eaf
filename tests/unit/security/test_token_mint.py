"""What the mint makes, what it takes back, and how peppers are changed."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections import Counter

import pytest

from rootstream_db.errors import AuthenticationError, ConfigurationError, InvalidTokenError
from rootstream_db.security.token_mint import TokenMint
from rootstream_db.security.tokens import ALPHABET, TokenKind

FIRST, SECOND = bytes(range(32)), bytes(range(100, 140))
MINT = TokenMint({1: FIRST})
KINDS = pytest.mark.parametrize("kind", list(TokenKind))


@KINDS
def test_what_was_issued_comes_back_as_its_digest(kind: TokenKind):
    issued = MINT.issue(kind)
    assert issued.digest == MINT.digest(issued.text, kind)
    assert issued.digest == MINT.digest(str(issued.text), kind)
    assert (1, issued.text[:9]) == (issued.version, issued.prefix)


def test_a_digest_is_the_hmac_sha_256_of_the_whole_token():
    issued = MINT.issue(TokenKind.SESSION)
    assert hmac.new(FIRST, issued.text.encode(), hashlib.sha256).digest() == issued.digest


def test_nobody_makes_a_digest_without_the_pepper():
    issued = MINT.issue(TokenKind.SESSION)
    assert issued.digest != TokenMint({1: SECOND}).digest(issued.text, TokenKind.SESSION)
    assert issued.digest != hashlib.sha256(issued.text.encode()).digest()


@KINDS
def test_a_token_of_another_kind_is_refused(kind: TokenKind):
    token = MINT.issue(kind).text
    for other in set(TokenKind) - {kind}:
        with pytest.raises(InvalidTokenError) as caught:
            MINT.digest(token, other)
        assert "kind" == caught.value.reason


@pytest.mark.parametrize("garbage", ["", None, 7, b"rss1_", "rss1_" + "0" * 49])
def test_garbage_is_an_authentication_error(garbage: object):
    with pytest.raises(AuthenticationError, match=r"^this is not a valid token$"):
        MINT.digest(garbage, TokenKind.SESSION)


def test_a_new_pepper_writes_and_the_old_one_verifies():
    old = MINT.issue(TokenKind.STREAM_KEY)
    both = TokenMint({1: FIRST, 2: SECOND})
    new = both.issue(TokenKind.STREAM_KEY)
    assert (2, "rsk2_") == (new.version, new.text[:5])
    assert old.digest == both.digest(old.text, TokenKind.STREAM_KEY)
    assert new.digest == both.digest(new.text, TokenKind.STREAM_KEY)


def test_a_new_pepper_waits_until_it_is_told_to_write():
    waiting = TokenMint({1: FIRST, 2: SECOND}, writes=1)
    assert (1, 1) == (waiting.version, waiting.issue(TokenKind.SESSION).version)
    early = TokenMint({1: FIRST, 2: SECOND}).issue(TokenKind.SESSION)
    assert early.digest == waiting.digest(early.text, TokenKind.SESSION)


def test_a_pepper_that_is_to_write_must_be_there():
    with pytest.raises(ConfigurationError, match=r"no pepper 3 among \[1, 2\]"):
        TokenMint({1: FIRST, 2: SECOND}, writes=3)


def test_a_token_of_a_pepper_that_was_removed_is_refused():
    old = MINT.issue(TokenKind.STREAM_KEY)
    with pytest.raises(InvalidTokenError) as caught:
        TokenMint({2: SECOND}).digest(old.text, TokenKind.STREAM_KEY)
    assert "pepper" == caught.value.reason


def test_every_digit_of_the_secret_takes_every_value_equally_often():
    tokens = [MINT.issue(TokenKind.SESSION).text[5:48] for _ in range(20_000)]
    expected = len(tokens) / len(ALPHABET)
    for place in (0, 1, 20, 42):
        counts = Counter(token[place] for token in tokens)
        assert set(ALPHABET) == set(counts)
        # Chi-square of 61 degrees of freedom: 140 is passed once in 10**8 runs.
        assert 140 > sum((count - expected) ** 2 / expected for count in counts.values())
    assert len(tokens) == len(set(tokens))


def test_unlucky_random_bytes_are_drawn_again(monkeypatch: pytest.MonkeyPatch):
    draws = [b"\xff" * 56, b"\xf8" * 55 + b"\x00", bytes(56)]
    monkeypatch.setattr(
        "rootstream_db.security.token_mint.os.urandom", lambda size: draws.pop(0)[:size]
    )
    assert "0" * 43 == MINT.issue(TokenKind.SESSION).text[5:48]
    assert [] == draws


@pytest.mark.parametrize(
    ("peppers", "reason"),
    [
        ({}, "needs a pepper"),
        ({1: bytes(31)}, "at least 32 bytes"),
        ({0: bytes(32)}, "versions of peppers are 1 to 99, not 0"),
        ({100: bytes(32)}, "not 100"),
    ],
)
def test_a_mint_without_proper_peppers_is_refused(peppers: dict[int, bytes], reason: str):
    with pytest.raises(ValueError, match=reason):
        TokenMint(peppers)


def test_what_was_issued_shows_neither_token_nor_digest():
    issued = MINT.issue(TokenKind.SESSION)
    assert issued.text[5:] not in repr(issued)
    assert repr(issued.digest) not in repr(issued)
    assert repr(FIRST) not in f"{MINT!r}"


def test_a_token_is_made_and_read_in_microseconds():
    def cost(act) -> float:
        started = time.process_time()
        for _ in range(2000):
            act()
        return (time.process_time() - started) / 2000

    token = MINT.issue(TokenKind.SESSION).text
    assert 100e-6 > min(cost(lambda: MINT.issue(TokenKind.SESSION)) for _ in range(3))
    assert 100e-6 > min(cost(lambda: MINT.digest(token, TokenKind.SESSION)) for _ in range(3))
