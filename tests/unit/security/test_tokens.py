"""The form of tokens, what is refused as garbage, and that a secret never shows itself."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import re
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootstream_db.errors import InvalidTokenError
from rootstream_db.security.token_mint import TokenMint
from rootstream_db.security.tokens import (
    ALPHABET,
    SCAN_PATTERN,
    SecretText,
    TokenForm,
    TokenKind,
    checksum,
    find_tokens,
    read_form,
    visible_prefix,
)

MINT = TokenMint({1: bytes(32)})
LATER_MINT = TokenMint({12: bytes(32)})
TOKEN = MINT.issue(TokenKind.STREAM_KEY).text
KINDS = pytest.mark.parametrize("kind", list(TokenKind))


def refusal(token: object) -> str | None:
    try:
        read_form(token)
    except InvalidTokenError as error:
        return error.reason
    return None


@KINDS
def test_a_token_has_the_published_form(kind: TokenKind):
    token = MINT.issue(kind).text
    assert re.fullmatch(kind.value + r"1_[0-9A-Za-z]{43}[0-9A-Za-z]{6}", token)
    assert TokenForm(kind, 1) == read_form(token)


def test_a_version_may_have_two_digits():
    token = LATER_MINT.issue(TokenKind.SESSION).text
    assert token.startswith("rss12_")
    assert TokenForm(TokenKind.SESSION, 12) == read_form(token)


def base62(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 62)
        digits = ALPHABET[digit] + digits
    return digits


@given(st.text(ALPHABET + "_"))
def test_the_checksum_is_the_crc_32_in_base_62(body: str):
    assert base62(zlib.crc32(body.encode())).rjust(6, "0") == checksum(body)


@given(place=st.integers(0, len(TOKEN) - 1), digit=st.sampled_from(ALPHABET + "_"))
def test_one_changed_character_is_always_refused(place: int, digit: str):
    changed = TOKEN[:place] + digit + TOKEN[place + 1 :]
    assert (changed == TOKEN) == (refusal(changed) is None)


@given(place=st.integers(0, len(TOKEN) - 2))
def test_two_swapped_neighbours_are_always_refused(place: int):
    swapped = TOKEN[:place] + TOKEN[place + 1] + TOKEN[place] + TOKEN[place + 2 :]
    assert (swapped == TOKEN) == (refusal(swapped) is None)


@given(st.integers(0, len(TOKEN) - 1))
def test_a_part_of_a_token_is_refused(length: int):
    assert "shape" == refusal(TOKEN[:length])


GARBAGE = {
    "empty": "",
    "prefix alone": "rsk1_",
    "none": None,
    "number": 7,
    "bytes": TOKEN.encode(),
    "bytearray": bytearray(TOKEN.encode()),
    "list of characters": list(TOKEN),
    "old form": "rsk_" + "0" * 49,
    "version zero": "rsk0_" + TOKEN[5:],
    "version with zero": "rsk01_" + TOKEN[5:],
    "three-digit version": "rsk100_" + TOKEN[5:],
    "unicode version": "rsk\u0661_" + TOKEN[5:],
    "unicode digits": "rsk1_" + "\u0660" * 49,
    "full-width digits": "rsk1_" + "\uff11" * 49,
    "letter beyond ascii": TOKEN[:20] + "\u00e9" + TOKEN[21:],
    "nul": "rsk1_" + "\x00" * 49,
    "nul at the end": TOKEN + "\x00",
    "lone surrogates": "rsk1_" + "\ud800" * 49,
    "megabyte": "rsk1_" + "A" * 1_000_000,
    "space before": " " + TOKEN,
    "space after": TOKEN + " ",
    "line end": TOKEN + "\n",
    "line end inside": TOKEN[:-1] + "\n",
    "zero-width space": TOKEN + "\u200b",
    "upper case": TOKEN.upper(),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_refused_by_its_shape(name: str):
    assert "shape" == refusal(GARBAGE[name])


def test_a_wrong_checksum_and_an_unknown_kind_are_named_as_such():
    body = f"rsz1_{TOKEN[5:-6]}"
    assert "kind" == refusal(body + checksum(body))
    assert "checksum" == refusal("rsk1_" + "0" * 49)


@given(st.one_of(st.text(st.characters(codec=None)), st.binary(), st.integers(), st.none()))
def test_whatever_is_not_a_token_is_refused_and_nothing_else_happens(anything: object):
    assert refusal(anything) in {"shape", "checksum"}


@given(st.from_regex(r"rs[a-z][1-9][0-9]?_[0-9A-Za-z]{49}", fullmatch=True))
def test_look_alikes_are_refused(text: str):
    assert refusal(text) in {"checksum", "kind"}


def test_refusing_takes_no_longer_for_a_megabyte():
    def best(token: str) -> float:
        samples = []
        for _ in range(200):
            started = time.perf_counter()
            refusal(token)
            samples.append(time.perf_counter() - started)
        return min(samples)

    # Reading the megabyte even once would take a thousand times as long.
    assert best("rsk1_" + "A" * 1_000_000) < 20 * best("rsk1_" + "A" * 49)


def test_a_refusal_does_not_show_what_was_refused():
    with pytest.raises(InvalidTokenError) as caught:
        read_form(TOKEN[:-1] + ("0" if TOKEN[-1] != "0" else "1"))
    error = caught.value
    assert TOKEN[5:20] not in f"{error!r} {error} {error.context} {error.as_dict()}"
    assert (None, True) == (error.__cause__, error.__cause__ is error.__context__)


def test_the_scan_pattern_finds_every_kind_wherever_it_stands():
    tokens = [mint.issue(kind).text for kind in TokenKind for mint in (MINT, LATER_MINT)]
    for surroundings in ("{}", "key={}&x=1", "key%3D{}%26", '{{"token":"{}"}}', "x\t{}\n", "a{}."):
        text = "\n".join(surroundings.format(token) for token in tokens)
        assert tokens == re.findall(SCAN_PATTERN, text)
        assert tokens == list(find_tokens(text))


def test_the_checksum_filters_look_alikes_that_the_pattern_finds():
    text = f"{TOKEN} rsk1_{'A' * 49} {TOKEN[:-1]}{'0' if TOKEN[-1] != '0' else '1'}"
    assert 3 == len(re.findall(SCAN_PATTERN, text))
    assert [TOKEN] == list(find_tokens(text))


def test_longer_words_are_no_tokens():
    assert [] == re.findall(SCAN_PATTERN, f"{TOKEN}A {TOKEN}_x")


def test_the_visible_prefix_gives_four_digits_of_the_secret():
    assert TOKEN[:9] == visible_prefix(TOKEN)


@given(st.text())
def test_a_visible_prefix_fits_its_column(text: str):
    assert 16 >= len(visible_prefix(text))


def test_a_secret_is_masked_in_repr_and_in_what_shows_repr(caplog):
    secret = MINT.issue(TokenKind.STREAM_KEY).text
    caplog.set_level(logging.INFO)
    logging.getLogger("test").info("issued %r in %s", secret, {"key": secret})
    shown = [repr(secret), f"{secret!r}", f"{[secret]}", caplog.text]
    assert [] == [text for text in shown if secret[5:] in text]


def test_a_secret_gives_its_value_as_text():
    secret = SecretText("rsk1_secret")
    assert ("rsk1_secret", "rsk1_secret", '"rsk1_secret"') == (
        str(secret),
        f"{secret}",
        json.dumps(secret),
    )


def test_a_secret_stays_masked_when_copied_or_pickled():
    secret = SecretText("rsk1_secret")
    pickled = pickle.loads(pickle.dumps(secret))  # noqa: S301 - made by this test
    copies = [copy.copy(secret), copy.deepcopy(secret), pickled]
    assert [(secret, "SecretText('**********')")] * 3 == [(each, repr(each)) for each in copies]
