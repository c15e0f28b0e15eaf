"""25: passwords of every length and alphabet are taken whole or refused, never cut."""

from __future__ import annotations

import time
import unicodedata

import pytest
from argon2 import PasswordHasher as Argon2

from rootstream_db.errors import InvalidCredentialsError, ValidationError

LONG = "".join(f"{number:x}-" for number in range(7, 999))
ACCENTED = unicodedata.normalize("NFD", "éàü îñç õèù ëïö")
WEAK = Argon2(time_cost=1, memory_cost=8, parallelism=1)

TAKEN = {
    "64 characters": LONG[:64],
    "128 characters": LONG[:128],
    "longest": LONG[:1024],
    "spaces inside": "correct horse battery staple",
    "spaces around": "  correct horse battery  ",
    "unicode": "пароль-ürgend-ein-密码",
    "emoji": "🐎🔋📎🧷🪝🛟🧲🪜🧯🪣🧺🪤",
    "combining": ACCENTED,
    "quotes": "'\"; DROP TABLE users; --",
    "line end": "correct horse\nbattery",
}


def register(rootstream, password, name="alice"):
    with rootstream.transaction() as work:
        return rootstream.accounts.register(
            work, username=name, email=f"{name}@example.com", password=password
        )


def log_in(rootstream, password, name="alice"):
    with rootstream.transaction() as work:
        return rootstream.accounts.authenticate(work, name, password)


@pytest.mark.parametrize("name", TAKEN)
def test_25_a_password_is_taken_as_it_is_to_the_last_character(rootstream, name):
    password = TAKEN[name]
    user = register(rootstream, password)
    assert user.id == log_in(rootstream, password).id
    for other in (password[:-1], password + " ", password + password[-1], password.swapcase()):
        if other != password:
            with pytest.raises(InvalidCredentialsError):
                log_in(rootstream, other)
            rootstream.accounts._passwords._lockout.clear("alice")


def test_25_forms_of_one_letter_are_two_passwords(rootstream):
    """What was typed is what counts (ASVS 6.2.8): nothing is normalised behind the owner's back."""
    register(rootstream, ACCENTED)
    with pytest.raises(InvalidCredentialsError):
        log_in(rootstream, unicodedata.normalize("NFC", ACCENTED))


@pytest.mark.parametrize(
    "password",
    ["", "short", "x" * 11, "y" * 1025, "m" * 1_000_000, "password1234", "alice@example.com"],
    ids=["empty", "short", "11", "1025", "megabyte", "common", "own address"],
)
def test_25_a_password_that_breaks_a_rule_is_refused_at_once_and_not_shown(rootstream, password):
    started = time.monotonic()
    with pytest.raises(ValidationError) as caught:
        register(rootstream, password)
    assert 5 > time.monotonic() - started
    assert "password" == caught.value.field
    assert len(password) < 6 or password not in f"{caught.value!r}{caught.value.as_dict()}"


@pytest.mark.parametrize(
    "password",
    ["n" * 1_000_000, "nul\0nul", "\0" * 20, "\ud800" * 12],
    ids=["megabyte", "nul", "nuls", "surrogates"],
)
def test_25_whatever_is_sent_as_a_password_is_a_wrong_one_at_worst(rootstream, password):
    user = register(rootstream, "correct horse battery staple")
    with pytest.raises(InvalidCredentialsError):
        log_in(rootstream, password)
    assert user.id == log_in(rootstream, "correct horse battery staple").id


def test_25_a_hash_of_weaker_parameters_is_made_anew_at_the_next_login(rootstream):
    password = "correct horse battery staple"
    user = register(rootstream, password)
    with rootstream.transaction() as work:
        work.users.get_one(user.id).password_hash = old = WEAK.hash(password)
    with pytest.raises(InvalidCredentialsError):
        log_in(rootstream, "wrong")
    with rootstream.transaction() as work:
        assert old == work.users.get_one(user.id).password_hash
    renewed = log_in(rootstream, password).password_hash
    assert old != renewed
    assert renewed == log_in(rootstream, password).password_hash
