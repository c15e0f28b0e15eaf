"""Backup codes: what they look like, and what people make of them when they type."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootstream_db.security.backup_codes import (
    ALPHABET,
    SLOTS,
    new_backup_codes,
    parse_backup_code,
)


def test_there_are_ten_in_the_published_form():
    codes = new_backup_codes()
    assert list(SLOTS) == [code.slot for code in codes]
    assert 10 == len({code.secret for code in codes})
    for code in codes:
        assert re.fullmatch(r"[A-HJK](-[0-9A-HJKMNP-TV-Z]{4}){3}", code.shown())


def test_all_digits_of_the_alphabet_occur():
    seen = {digit for _ in range(50) for code in new_backup_codes() for digit in code.secret}
    assert set(ALPHABET) == seen


@given(data=st.data(), spacing=st.sampled_from(["", "-", " ", " - "]))
def test_a_code_is_understood_as_people_type_it(data, spacing):
    code = data.draw(st.sampled_from(new_backup_codes()))
    typed = spacing.join(str(code).split("-"))
    typed = data.draw(st.sampled_from([typed, typed.lower(), f" {typed} "]))
    misread = typed[:3] + typed[3:].replace("0", "o").replace("1", "l")

    assert str(code) == str(parse_backup_code(typed)) == str(parse_backup_code(misread))


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "A",
        "A-0000-0000-000",
        "A-0000-0000-00000",
        "L-0000-0000-0000",
        "A-0000-0000-000U",
        "\uff21-0000-0000-0000",
        "A-0000-0000-000\0",
        "A-0000\n0000-0000",
        "A0000" * 100_000,
        None,
        b"A-0000-0000-0000",
        7,
    ],
    ids=range(13),
)
def test_what_is_no_code_is_none(typed):
    assert parse_backup_code(typed) is None


def test_a_code_does_not_show_itself():
    code = new_backup_codes()[0]
    assert code.secret not in f"{code!r} {code.shown()!r}"
