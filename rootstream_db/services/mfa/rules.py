"""What a device may be called, how many an account has, what its secrets are bound to. Pure."""

from __future__ import annotations

import unicodedata
import uuid
from collections.abc import Sequence

from rootstream_db.errors import ConflictError, ValidationError
from rootstream_db.models.mfa import MAX_LABEL, MfaFactor
from rootstream_db.security.keyring import row_context


def check_label(label: str) -> str:
    """Return the name of a device, without white space around it, if it is one line of text.

    Raises:
        ValidationError: it is empty, too long, or holds what cannot be printed.
    """
    # Length comes first, so that a megabyte of text costs nothing.
    shown = unicodedata.normalize("NFC", label).strip() if len(label) <= MAX_LABEL else ""
    if not shown or len(shown) > MAX_LABEL or not shown.isprintable():
        raise ValidationError(
            f"a device's name is one line of 1 to {MAX_LABEL} printable characters", field="label"
        )
    return shown


def check_room(known: Sequence[MfaFactor], label: str, *, most: int) -> None:
    """Make sure that a factor of that name can be added to those an account has.

    Raises:
        ConflictError: the name is taken, or there are as many as there may be.
    """
    if any(factor.label == label for factor in known):
        raise ConflictError(f"a device called {label!r} is enrolled already", field="label")
    if len(known) >= most:
        raise ConflictError(f"an account has at most {most} second factors: remove one first")


def secret_context(user_id: int, factor_id: uuid.UUID) -> bytes:
    """Return what binds a sealed value of a factor to its row."""
    return row_context("user_mfa", user_id, factor_id)
