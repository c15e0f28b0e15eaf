"""What a username, e-mail address, password and profile may be, and what a refusal says."""

from __future__ import annotations

import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rootstream_db.errors import ValidationError
from rootstream_db.services.accounts.rules import (
    RESERVED_USERNAMES,
    check_avatar_url,
    check_display_name,
    check_email,
    check_ip_address,
    check_password,
    check_username,
    normal_login,
)

MEGABYTE = "a" * 1_000_000
ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

usernames = st.builds(
    str.__add__,
    st.sampled_from(ALPHABET),
    st.text(ALPHABET + "_.-", min_size=2, max_size=31),
)


def label(value):
    """Name a test after a value that may be a megabyte long or no text at all."""
    return f"{ascii(value)[:24]} ({len(value)})" if isinstance(value, str) else ascii(value)


def password_for(password, *, username="alice", email="al@example.com"):
    return check_password(password, username=username, email=email, min_length=12, max_length=1024)


# usernames


@given(usernames)
def test_every_username_of_the_form_is_kept_as_it_is(username):
    assume(username.lower() not in RESERVED_USERNAMES)
    assert username == check_username(username)


@given(st.text(st.characters(codec=None), max_size=40))
def test_what_is_accepted_as_username_always_fits_column_and_form(text):
    try:
        accepted = check_username(text)
    except ValidationError:
        return
    assert 3 <= len(accepted) <= 32
    assert accepted.isascii()
    assert accepted[0].isalnum()
    assert set(accepted) <= set(ALPHABET + "_.-")


@pytest.mark.parametrize(
    ("username", "advice"),
    [
        ("", "3 to 32 characters, not 0"),
        ("al", "3 to 32 characters, not 2"),
        ("a" * 33, "3 to 32 characters, not 33"),
        (MEGABYTE, "3 to 32 characters, not 1000000"),
        ("_alice", "starts with a letter or digit"),
        ("alice\n", "starts with a letter or digit"),
        ("ali\0ce", "starts with a letter or digit"),
        ("ali ce", "starts with a letter or digit"),
        ("alice@home", "starts with a letter or digit"),
        ("\u0430lice", "starts with a letter or digit"),
        ("ali\u0301ce", "starts with a letter or digit"),
        ("Admin", "reserved"),
        ("ROOTSTREAM", "reserved"),
    ],
    ids=label,
)
def test_a_wrong_username_is_refused_with_advice(username, advice):
    with pytest.raises(ValidationError, match=advice) as caught:
        check_username(username)
    assert "username" == caught.value.field


def test_every_reserved_name_is_lower_case_and_would_pass_otherwise():
    for name in RESERVED_USERNAMES - {"me"}:
        assert name == name.lower()
        assert f"{name[:28]}x" == check_username(f"{name[:28]}x")


# e-mail addresses


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("alice@example.com", "alice@example.com"),
        ("Alice.B+tag@EXAMPLE.Com", "Alice.B+tag@example.com"),
        ("a@BÜCHER.example.com", "a@xn--bcher-kva.example.com"),
        ("a@xn--bcher-kva.example.com", "a@xn--bcher-kva.example.com"),
    ],
)
def test_an_address_is_stored_with_its_domain_in_lower_case_ascii(typed, stored):
    assert stored == check_email(typed)


@given(st.emails())
def test_the_stored_form_of_an_address_is_stored_as_it_is(address):
    try:
        stored = check_email(address)
    except ValidationError:
        return
    assert stored == check_email(stored)
    assert stored.isascii()
    assert len(stored) <= 254


@pytest.mark.parametrize(
    "email",
    [
        "",
        "alice",
        "alice@",
        "@example.com",
        "alice@localhost",
        "alice@[127.0.0.1]",
        "é@example.com",
        '"al ice"@example.com',
        "Alice <alice@example.com>",
        "alice@example.com\0",
        "alice@example.com\n",
        "ali\0ce@example.com",
        "alice@exa\ud800mple.com",
        "alice@example.com,bob@example.com",
        MEGABYTE + "@example.com",
        "a@" + "é." * 120 + "com",
    ],
    ids=label,
)
def test_a_wrong_address_is_refused_by_name(email):
    with pytest.raises(ValidationError) as caught:
        check_email(email)
    assert "email" == caught.value.field
    assert len(str(caught.value)) < 500


# passwords


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery staple",
        "密码密码非常长的一个密码短语吧",
        "a" * 500 + "bcdefgh" * 70,
        "  padded pass phrase  ",
    ],
    ids=label,
)
def test_a_long_password_of_any_text_is_kept_exactly_as_given(password):
    assert password == password_for(password)


@pytest.mark.parametrize(
    ("password", "advice"),
    [
        ("elevenchars", "12 to 1024 characters, not 11"),
        ("ab" * 513, "12 to 1024 characters, not 1026"),
        (MEGABYTE, "12 to 1024 characters, not 1000000"),
        ("nul in \0 the middle", "NUL"),
        ("half a surrogate \ud800", "broken characters"),
        ("Password 1234", "first to be guessed"),
        ("aaaaaaaaaaaaaaaa", "first to be guessed"),
    ],
    ids=label,
)
def test_a_weak_password_is_refused_with_advice(password, advice):
    with pytest.raises(ValidationError, match=advice) as caught:
        password_for(password)
    assert "password" == caught.value.field
    assert password[:12] not in str(caught.value)


@pytest.mark.parametrize(
    "password", ["Alice.Lidell.1", "ALICE.lidell.1@example.com", "wonderland-90"]
)
def test_a_password_may_not_be_what_everybody_sees_of_the_account(password):
    with pytest.raises(ValidationError, match="is the username or e-mail address"):
        password_for(
            password,
            username="wonderland-90",
            email="alice.lidell.1@example.com",
        )


def test_the_length_of_a_password_is_counted_in_characters():
    with pytest.raises(ValidationError, match="not 11"):
        password_for("éèêëáàâäóòô")
    assert 12 == len(password_for("éèêëáàâäóòôö"))


# profile


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        (None, None),
        ("", None),
        ("   ", None),
        ("  Alice  ", "Alice"),
        ("Ali\u0301ce", "Al\u00edce"),
        ("愛麗絲 👩\u200d🚀", "愛麗絲 👩\u200d🚀"),
    ],
)
def test_a_display_name_is_trimmed_and_composed(typed, stored):
    assert stored == check_display_name(typed)


@pytest.mark.parametrize(
    "name",
    ["a" * 101, MEGABYTE, "two\nlines", "nul\0", "\ud800", "\u202eevil", "a\u2028b", "\x1b[31mred"],
    ids=label,
)
def test_a_display_name_that_would_break_a_page_is_refused(name):
    with pytest.raises(ValidationError, match="a display name") as caught:
        check_display_name(name)
    assert "display_name" == caught.value.field


@pytest.mark.parametrize(
    "url", [None, "https://cdn.example.com/a.png?size=64#x", "http://127.0.0.1:8080/a"]
)
def test_an_avatar_may_be_any_plain_http_address(url):
    assert url == check_avatar_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "cdn.example.com/a.png",
        "javascript:alert(1)",
        "data:image/png;base64,AAAA",
        "file:///etc/passwd",
        "https://",
        "https:///a.png",
        "https://user:secret@example.com/a.png",
        "https://exa mple.com/",
        "https://example.com/\0",
        "https://example.com/\n",
        "https://bücher.example/",
        "https://[::1/a.png",
        "https://example.com:99999/a.png",
        "https://example.com/" + "a" * 2048,
        MEGABYTE,
    ],
    ids=label,
)
def test_an_avatar_address_that_a_page_must_not_link_to_is_refused(url):
    with pytest.raises(ValidationError, match="an avatar's URL") as caught:
        check_avatar_url(url)
    assert "avatar_url" == caught.value.field


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        (None, None),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("fe80::1%\0", "fe80::1"),
    ],
)
def test_an_ip_address_is_kept_in_its_shortest_form(typed, stored):
    assert stored == check_ip_address(typed)


@pytest.mark.parametrize("address", ["", "localhost", "1.2.3.4\0", "1.2.3", MEGABYTE], ids=label)
def test_what_is_no_ip_address_is_refused(address):
    with pytest.raises(ValidationError, match="neither an IPv4 nor an IPv6"):
        check_ip_address(address)


# logins


@pytest.mark.parametrize(
    ("typed", "compared"),
    [
        ("Alice", "alice"),
        (" alice \n", "alice"),
        ("ALICE@Example.COM", "alice@example.com"),
        ("a@BÜCHER.example.com", "a@xn--bcher-kva.example.com"),
        ("not@an@address", "not@an@address"),
        ("", None),
        ("   ", None),
        ("ali\0ce", None),
        ("al\u00ed", None),
        ("\ud800", None),
        (MEGABYTE, None),
    ],
    ids=label,
)
def test_a_login_is_compared_in_one_form_whatever_its_case(typed, compared):
    assert compared == normal_login(typed)


@given(usernames)
def test_a_registered_username_is_found_in_any_case(username):
    assert username.lower() == normal_login(username.upper()) == normal_login(username.lower())


@given(st.emails())
def test_a_registered_address_is_found_in_any_case(address):
    try:
        stored = check_email(address)
    except ValidationError:
        return
    assert stored.lower() == normal_login(stored) == normal_login(stored.upper())


@given(st.text(st.characters(codec=None), max_size=300))
def test_a_normal_login_can_always_be_sent_to_the_database(text):
    login = normal_login(text)
    if login is not None:
        assert login.isascii()
        assert "\0" not in login
        assert login == normal_login(login)


@pytest.mark.parametrize(
    "refuse", [check_username, check_email, check_display_name, check_avatar_url, password_for]
)
def test_a_megabyte_is_refused_in_no_time(refuse):
    started = time.process_time()
    with pytest.raises(ValidationError):
        refuse(MEGABYTE)
    assert time.process_time() - started < 0.05
