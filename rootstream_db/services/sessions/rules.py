"""What clients may say about themselves. Pure: no clock, no I/O."""

from __future__ import annotations

import unicodedata
from typing import Final

from rootstream_db.errors import ValidationError
from rootstream_db.models import RevokeReason, User
from rootstream_db.services.accounts.rules import check_ip_address

MAX_USER_AGENT: Final = 500
MAX_DEVICE_LABEL: Final = 120
MAX_LOCATION: Final = 200
MAX_FINGERPRINT: Final = 1024
MAX_REASON: Final = 200

_REPLACEMENT: Final = "\ufffd"


def shown_user_agent(user_agent: str | None) -> str | None:
    """Return what a client calls itself as it can be stored and shown: one line, not too long.

    It is a claim of a stranger's program, so nothing about it is worth refusing a login.
    """
    if not user_agent:
        return None
    shown = user_agent[:MAX_USER_AGENT]
    if not shown.isprintable():
        shown = "".join(
            _REPLACEMENT if _is_unprintable(character) else character for character in shown
        )
    return shown.strip() or None


def check_line(text: str | None, field: str, *, most: int) -> str | None:
    """Return one line of text, without white space around it; empty means none.

    Raises:
        ValidationError: it is too long or holds control characters.
    """
    if text is None:
        return None
    if len(text) > most:
        raise ValidationError(f"{field} has at most {most} characters", field=field)
    line = text.strip()
    if not line.isprintable() and any(map(_is_unprintable, line)):
        raise ValidationError(f"{field} is one line of text", field=field)
    return line or None


def check_fingerprint(fingerprint: str | None) -> bytes | None:
    """Return the bytes of what the application says tells one device from another.

    Raises:
        ValidationError: it is too long to be a fingerprint.
    """
    if not fingerprint:
        return None
    if len(fingerprint) > MAX_FINGERPRINT:
        raise ValidationError(
            f"a device fingerprint has at most {MAX_FINGERPRINT} characters: give a digest",
            field="device_fingerprint",
        )
    return fingerprint.encode("utf-8", "surrogatepass")


def known_address(address: str | None) -> str | None:
    """Return the address of a request, or None if it is none; a proxy may say anything."""
    try:
        return check_ip_address(address)
    except ValidationError:
        return None


def check_reason(reason: RevokeReason | str) -> RevokeReason:
    """Return the reason for ending a session.

    Raises:
        ValidationError: there is no such reason.
    """
    try:
        return RevokeReason(reason)
    except ValueError:
        known = ", ".join(RevokeReason)
        raise ValidationError(f"a session ends for one of: {known}", field="reason") from None


def user_id_of(user: User | int) -> int:
    """Return the id of an account that is given as a row or by its id."""
    return user if isinstance(user, int) else user.id


def _is_unprintable(character: str) -> bool:
    return unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
