"""What a username, an e-mail address, a password and a profile may be. Pure: no clock, no I/O.

Each rule takes what somebody typed and returns what is stored, or raises one ``ValidationError``
that names the field and says what to do. Length comes first everywhere, so that a megabyte of
text costs nothing.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from typing import Final
from urllib.parse import urlsplit

from email_validator import EmailNotValidError, validate_email

from rootstream_db.errors import ValidationError
from rootstream_db.security.common_passwords import is_common

MIN_USERNAME: Final = 3
MAX_USERNAME: Final = 32
MAX_EMAIL: Final = 254
"""Longest address that mail can be sent to (RFC 5321 4.5.3.1.3, RFC 3696 erratum 1690)."""
MAX_DISPLAY_NAME: Final = 100
MAX_AVATAR_URL: Final = 2048
MAX_IP_ADDRESS: Final = 64
"""More than the longest IPv6 address with a zone needs; what is cut off here was no address."""

RESERVED_USERNAMES: Final = frozenset(
    """
    abuse account accounts admin administrator anonymous api auth billing contact dashboard
    everyone guest help hostmaster info login logout mail me moderator noreply no-reply
    null official operator postmaster register root rootstream security self settings
    signup staff status stream streams support sysadmin system undefined user users webmaster www
    """.split()  # noqa: SIM905 - a block of words reads better than a list
)
"""Names by which somebody would pass for the platform, or that collide with addresses of pages."""

_USERNAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_DIRECTION_MARKS: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def check_username(username: str) -> str:
    """Return the username if it may be registered.

    ASCII only, because look-alike letters of other alphabets let one user pass for another.
    """
    if not MIN_USERNAME <= len(username) <= MAX_USERNAME:
        raise _refused(
            "username",
            f"a username has {MIN_USERNAME} to {MAX_USERNAME} characters, not {len(username)}",
        )
    if _USERNAME.fullmatch(username) is None:
        raise _refused(
            "username",
            "a username starts with a letter or digit and holds only the letters A to Z, digits, "
            "'_', '.' and '-'",
        )
    if username.lower() in RESERVED_USERNAMES:
        raise _refused("username", f"the username {username!r} is reserved: choose another one")
    return username


def check_email(email: str) -> str:
    """Return the e-mail address in the form that is stored: the domain lower-case and in ASCII.

    The part before the @ stays as typed. Nothing is looked up in the DNS.
    """
    if len(email) > MAX_EMAIL:
        raise _refused("email", f"an e-mail address has at most {MAX_EMAIL} characters")
    try:
        valid = validate_email(email, check_deliverability=False, allow_smtputf8=False)
    except EmailNotValidError as error:
        raise _refused("email", f"this is no e-mail address that can be used: {error}") from error
    # An address in ASCII compares alike under every locale of the database.
    return f"{valid.local_part}@{valid.ascii_domain}"


def check_password(
    password: str, *, username: str, email: str, min_length: int, max_length: int
) -> str:
    """Return the password, exactly as given, if it may be set (NIST SP 800-63B-4 3.1.1.2).

    Length is what counts; no mixture of character classes is asked for.
    """
    if not min_length <= len(password) <= max_length:
        raise _refused(
            "password",
            f"a password has {min_length} to {max_length} characters, not {len(password)}: "
            "a phrase of several words is easy to remember",
        )
    if "\0" in password or not _is_text(password):
        raise _refused("password", "a password holds text only: NUL and broken characters do not")
    if password.casefold() in _own_words(username, email):
        raise _refused("password", "the password is the username or e-mail address: choose another")
    if is_common(password):
        raise _refused("password", "the password is among the first to be guessed: choose another")
    return password


def check_display_name(name: str | None) -> str | None:
    """Return the name to show, without white space around it; empty means none."""
    if name is None:
        return None
    if len(name) > MAX_DISPLAY_NAME:
        raise _refused("display_name", f"a display name has at most {MAX_DISPLAY_NAME} characters")
    shown = unicodedata.normalize("NFC", name).strip()
    if len(shown) > MAX_DISPLAY_NAME or any(_is_unprintable(character) for character in shown):
        raise _refused(
            "display_name",
            "a display name is one line of text, without control characters or marks that turn "
            "its direction",
        )
    return shown or None


def check_avatar_url(url: str | None) -> str | None:
    """Return the address of the picture if a page may link to it."""
    if url is None:
        return None
    if len(url) > MAX_AVATAR_URL:
        raise _refused("avatar_url", f"an avatar's URL has at most {MAX_AVATAR_URL} characters")
    if not _is_plain_http(url):
        raise _refused(
            "avatar_url",
            "an avatar's URL starts with https:// or http://, names a host, carries no password "
            "and is plain ASCII without spaces",
        )
    return url


def check_ip_address(address: str | None) -> str | None:
    """Return the address in its shortest form, without the zone that means nothing elsewhere."""
    if address is None:
        return None
    try:
        return str(ipaddress.ip_address(address[:MAX_IP_ADDRESS].partition("%")[0]))
    except ValueError as error:
        raise _refused("ip_address", "this is neither an IPv4 nor an IPv6 address") from error


def normal_login(login: str) -> str | None:
    """Return what somebody typed to log in as the form by which it is compared and counted.

    A login is a username or an e-mail address in any case. None means that no account can have
    it, whatever is stored, so that nothing needs to be asked.
    """
    if len(login) > MAX_EMAIL:
        return None
    name = login.strip()
    if "@" in name:
        name = _normal_email(name)
    return name.lower() if name and name.isascii() and name.isprintable() else None


def _refused(field: str, message: str) -> ValidationError:
    return ValidationError(message, field=field)


def _own_words(username: str, email: str) -> set[str]:
    local_part = email.partition("@")[0]
    return {word.casefold() for word in (username, email, local_part)}


def _normal_email(typed: str) -> str:
    try:
        return check_email(typed)
    except ValidationError:
        # Still counted and compared: the rules may have been others when the account was made.
        return typed


def _is_text(text: str) -> bool:
    return not any(unicodedata.category(character) == "Cs" for character in text)


def _is_unprintable(character: str) -> bool:
    return (
        unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} or character in _DIRECTION_MARKS
    )


def _is_plain_http(url: str) -> bool:
    if not (url.isascii() and url.isprintable()) or " " in url:
        return False
    try:
        parts = urlsplit(url)
        # Reading the port is what checks it.
        known = (parts.scheme, parts.hostname, parts.port)
    except ValueError:
        return False
    return known[0] in {"http", "https"} and bool(known[1]) and "@" not in parts.netloc
