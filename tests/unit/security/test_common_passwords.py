"""The list of passwords that are guessed first."""

from __future__ import annotations

import pytest

from rootstream_db.security import common_passwords
from rootstream_db.security.common_passwords import is_common


@pytest.mark.parametrize(
    "password",
    [
        "password1234",
        "PassWord1234",
        "pass word 1234!",
        "I-Love-You-Forever",
        "aaaaaaaaaaaa",
        "abababababab",
        "123456789012",
        "qwertyuiopasdf",
        "lkjhgfdsapoiu",
        "",
        "            ",
    ],
)
def test_a_common_password_is_found_in_every_dress(password):
    assert is_common(password)


@pytest.mark.parametrize(
    "password", ["correct horse battery staple", "vX9#kqLw2!mZ", "пароль из четырёх слов"]
)
def test_an_uncommon_password_is_left_alone(password):
    assert not is_common(password)


def test_every_entry_of_the_list_can_be_hit():
    assert [] == [entry for entry in common_passwords._COMMON if not is_common(entry)]
    folded = {common_passwords._SEPARATORS.sub("", e.casefold()) for e in common_passwords._COMMON}
    assert folded == common_passwords._COMMON
