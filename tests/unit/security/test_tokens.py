"""The form of tokens, what is refused as garbage, and that a secret never shows itself."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootstream_db.security.tokens import (
    ALPHABET,
    SecretText,
    looks_like,
    new_token,
    token_hash,
    token_length,
    visible_prefix,
)


def test_a_token_has_the_published_form():
    assert re.fullmatch(r"rsk_[0-9A-Za-z]{49}", new_token("rsk"))
    assert token_length("rsk") == len(new_token("rsk"))


def test_tokens_never_repeat():
    assert 1000 == len({new_token("rsk") for _ in range(1000)})


def test_every_digit_of_the_secret_carries_randomness():
    # The first of 43 digits holds what is left above 62**42; every other one takes all 62 values.
    secrets_made = [new_token("rsk")[4:47] for _ in range(2000)]
    seen = [len({secret[place] for secret in secrets_made}) for place in range(1, 43)]
    assert [62] * 42 == seen


@pytest.mark.parametrize("prefix", ["", "r", "RSK", "rs_k", "1rs", "toolongprefix", "rsk\n", "rśk"])
def test_a_prefix_outside_the_form_is_refused(prefix):
    with pytest.raises(ValueError, match="2 to 8 lower-case letters and digits"):
        new_token(prefix)


def test_a_new_token_looks_like_one():
    assert looks_like(new_token("rsk"), "rsk")


def test_a_token_of_another_prefix_is_refused():
    assert not looks_like(new_token("rsk"), "rsv")


@given(place=st.integers(0, 52), digit=st.sampled_from(ALPHABET))
def test_one_changed_character_is_always_refused(place, digit):
    token = new_token("rsk")
    changed = token[:place] + digit + token[place + 1 :]
    assert (changed == token) == looks_like(changed, "rsk")


@given(place=st.integers(0, 51))
def test_two_swapped_neighbours_are_always_refused(place):
    token = new_token("rsk")
    swapped = token[:place] + token[place + 1] + token[place] + token[place + 2 :]
    assert (swapped == token) == looks_like(swapped, "rsk")


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "rsk_",
        None,
        7,
        b"rsk_" + b"0" * 49,
        "rsk_" + "0" * 49,
        "rsk_" + "\u0660" * 49,
        "rsk_" + "\x00" * 49,
        "rsk_" + "\ud800" * 49,
        "rsk_" + "A" * 1_000_000,
    ],
    ids=lambda value: repr(value)[:20],
)
def test_garbage_is_refused(garbage):
    assert not looks_like(garbage, "rsk")


def test_white_space_around_a_token_is_refused():
    assert not looks_like(new_token("rsk") + "\n", "rsk")


def test_a_token_is_stored_as_its_sha256():
    assert hashlib.sha256(b"rsk_abc").digest() == token_hash("rsk_abc")


@given(st.text(st.characters(codec=None)))
def test_any_text_can_be_hashed(text):
    assert 32 == len(token_hash(text))


def test_the_visible_prefix_gives_four_digits_of_the_secret():
    token = new_token("rsk")
    assert token[:8] == visible_prefix(token)


@given(st.text())
def test_a_visible_prefix_fits_its_column(text):
    assert 16 >= len(visible_prefix(text))


def test_a_secret_is_masked_in_repr_and_in_what_shows_repr(caplog):
    secret = new_token("rsk")
    caplog.set_level(logging.INFO)
    logging.getLogger("test").info("issued %r in %s", secret, {"key": secret})
    shown = [repr(secret), f"{secret!r}", f"{[secret]}", caplog.text]
    assert [] == [text for text in shown if secret[4:] in text]


def test_a_secret_gives_its_value_as_text():
    secret = SecretText("rsk_secret")
    assert ("rsk_secret", "rsk_secret", '"rsk_secret"') == (
        str(secret),
        f"{secret}",
        json.dumps(secret),
    )


def test_a_secret_stays_masked_when_copied_or_pickled():
    secret = SecretText("rsk_secret")
    pickled = pickle.loads(pickle.dumps(secret))  # noqa: S301 - made by this test
    copies = [copy.copy(secret), copy.deepcopy(secret), pickled]
    assert [(secret, "SecretText('**********')")] * 3 == [(each, repr(each)) for each in copies]
