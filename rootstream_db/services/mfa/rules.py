"""What a device may be called. Pure."""

from __future__ import annotations

import unicodedata

from rootstream_db.errors import ValidationError
from rootstream_db.models.mfa import MAX_LABEL


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
