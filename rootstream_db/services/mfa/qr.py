"""QR codes of enrolments, for a page, a file or a terminal."""

from __future__ import annotations

import io
from typing import Final, Literal, TypeAlias, overload

from rootstream_db.errors import ValidationError

QrFormat: TypeAlias = Literal["svg", "png", "terminal"]
"""What a QR code can be drawn as."""

SCALE: Final = 6
"""Pixels of a PNG's module: a phone reads it from a screen at arm's length."""

_QUIET_ZONE: Final = 4
"""Modules of white around the code (ISO/IEC 18004); scanners fail without them."""


@overload
def render_qr_code(uri: str, format: Literal["png"]) -> bytes: ...
@overload
def render_qr_code(uri: str, format: Literal["svg", "terminal"]) -> str: ...
def render_qr_code(uri: str, format: QrFormat) -> str | bytes:  # noqa: A002 - same
    """Return the QR code of a text: an SVG element, a PNG file, or lines of block characters.

    Raises:
        ValidationError: there is no such format, or the text does not fit into a code.
    """
    # Only those who enrol a device pay for the import.
    import segno

    try:
        code = segno.make(uri, error="m", micro=False)
    except ValueError:
        # Not chained: the error shows the text, which holds the shared secret.
        raise ValidationError("this text does not fit into a QR code", field="uri") from None
    if format == "svg":
        return code.svg_inline(scale=SCALE, border=_QUIET_ZONE, dark="#000", light="#fff")
    if format == "png":
        drawn = io.BytesIO()
        code.save(drawn, kind="png", scale=SCALE, border=_QUIET_ZONE)
        return drawn.getvalue()
    if format == "terminal":
        lines = io.StringIO()
        code.terminal(out=lines, border=_QUIET_ZONE, compact=True)
        return lines.getvalue()
    raise ValidationError(
        f"a QR code is drawn as svg, png or terminal, not {format}", field="format"
    )
