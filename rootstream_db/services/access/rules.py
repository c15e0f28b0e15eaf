"""What roles and keys may be called, and when they may end. Pure: no clock, no I/O."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from rootstream_db.errors import ValidationError
from rootstream_db.models.access import MAX_KEY_LABEL, MAX_ROLE_DESCRIPTION, MAX_ROLE_NAME

_ROLE_NAME: Final = re.compile(r"[a-z][a-z0-9_-]*", re.ASCII)


def check_role_name(name: str) -> str:
    """Return the name of a role if it may have it."""
    if len(name) > MAX_ROLE_NAME or _ROLE_NAME.fullmatch(name) is None:
        raise ValidationError(
            f"a role's name has 1 to {MAX_ROLE_NAME} of a-z, 0-9, '_' and '-', a letter first",
            field="name",
        )
    return name


def check_description(text: str) -> str:
    """Return what a role is for, one line."""
    return _line(text, "description", MAX_ROLE_DESCRIPTION)


def check_label(text: str) -> str:
    """Return what a key is for, one line."""
    return _line(text, "label", MAX_KEY_LABEL)


def check_expiry(expires_at: datetime | None, now: datetime) -> datetime | None:
    """Return when something ends, if it is yet to come."""
    if expires_at is not None:
        if expires_at.tzinfo is None:
            raise ValidationError("expires_at needs a time zone", field="expires_at")
        if expires_at <= now:
            raise ValidationError("expires_at is over already", field="expires_at")
    return expires_at


def _line(text: str, field: str, longest: int) -> str:
    if len(text) > longest or not (text.isprintable() or not text):
        raise ValidationError(f"a {field} is one line of at most {longest} characters", field=field)
    return text
