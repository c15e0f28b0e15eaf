"""What a media file holds, read from its packets with FFmpeg's libraries (PyAV).

Nothing is taken from a header that the packets can tell: a recording that was cut short, or whose
header was never finished because the server died, gets the duration that can be played.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from rootstream_db.errors import ConfigurationError

if TYPE_CHECKING:
    from av.container import InputContainer

CONTAINERS: Final = ("flv", "mp4", "mov", "mpegts", "matroska", "webm", "mp3", "aac", "ogg")
"""Formats that are opened: those of recordings, none that refers to other files or addresses."""

LARGEST_SIDE: Final = 2**15 - 1
_MILLISECOND: Final = Decimal("0.001")
_BUFFER_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaFacts:
    """What was read from a media file."""

    container: str
    duration_seconds: Decimal
    video_codec: str | None = None
    audio_codec: str | None = None
    width: int | None = None
    height: int | None = None


def probe(file: BinaryIO, *, name: str) -> MediaFacts | None:
    """Return what the open file holds, or None if nothing in it can be played.

    Every packet is read, none is decoded; a file cut anywhere counts up to the cut.

    Args:
        file: the file, open for reading in binary mode.
        name: its name; its suffix tells apart formats that share a reader, such as mp4 and mov.

    Raises:
        ConfigurationError: PyAV is not installed.
    """
    av = _pyav()
    options = {"format_whitelist": ",".join(CONTAINERS)}
    try:
        with av.open(file, options=options, buffer_size=_BUFFER_BYTES) as container:
            return _facts(container, name, unreadable=av.FFmpegError)
    except (av.FFmpegError, ValueError, LookupError):
        return None


def _facts(
    container: InputContainer, name: str, *, unreadable: type[Exception]
) -> MediaFacts | None:
    duration = _duration(container, unreadable)
    if duration is None:
        return None
    video = next(iter(container.streams.video), None)
    audio = next(iter(container.streams.audio), None)
    return MediaFacts(
        container=_container_name(container.format.name, name),
        duration_seconds=duration,
        video_codec=None if video is None else video.codec.name,
        audio_codec=None if audio is None else audio.codec.name,
        width=None if video is None else _side(video.width),
        height=None if video is None else _side(video.height),
    )


def _duration(container: InputContainer, unreadable: type[Exception]) -> Decimal | None:
    """Return the time from the first packet to the end of the last, None without packets."""
    first: Fraction | None = None
    end = Fraction(0)
    try:
        for packet in container.demux():
            if packet.pts is None or packet.time_base is None:
                continue
            begins = packet.pts * packet.time_base
            first = begins if first is None else min(first, begins)
            end = max(end, begins + (packet.duration or 0) * packet.time_base)
    except (unreadable, LookupError):
        # The file is damaged from here on, or PyAV stumbles at its end over a stream that only
        # appeared midway; what came before can be played.
        pass
    if first is None:
        return None
    lasted = max(end - first, Fraction(0))
    return (Decimal(lasted.numerator) / lasted.denominator).quantize(_MILLISECOND)


def _container_name(reader: str, name: str) -> str:
    """Return the one format of a reader that serves several, e.g. ``mov,mp4,m4a``."""
    names = reader.split(",")
    suffix = PurePath(name).suffix.removeprefix(".").lower()
    if suffix in names:
        return suffix
    return next((known for known in ("mp4", "matroska") if known in names), names[0])


def _side(pixels: int) -> int | None:
    return pixels if 0 < pixels <= LARGEST_SIDE else None


def _pyav() -> Any:
    try:
        import av
    except ImportError as error:
        raise ConfigurationError(
            "reading recordings needs PyAV: pip install 'rootstream-db[ingest]'"
        ) from error
    # FFmpeg's complaints about damaged files belong in the row's status, not on standard error.
    av.logging.set_level(None)
    return av
