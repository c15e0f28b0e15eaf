"""The form of an archive file: bytes in, bytes out.

A file is a sequence of zstd frames, so that ``zstd -dc`` makes plain text of it: one line for each
event, the very JSON array that its ``row_hash`` is the SHA-256 of. Between them stand frames that
zstd skips: after each block of lines their hashes, and at the end the index, which tells where the
blocks are and what their digests are. A reader of one block reads the index and that block.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import orjson

from rootstream_db.errors import ConfigurationError

HASH_BYTES: Final = 32

LARGEST_BLOCK: Final = 256 * 1024 * 1024
"""Bytes that a block may claim to hold or be: far above what is written, far below the memory."""

LEVEL: Final = 9
"""Of zstd: more time than the default, less space. Reading is as fast at any level."""

_LARGEST_FILE: Final = 2**62
_FORMAT: Final = 1
_MAGIC: Final = b"RSEVENT1"
_SKIPPABLE: Final = 0x184D2A5E  # one of the sixteen numbers that RFC 8878 sets aside for this
_HEADER: Final = struct.Struct("<II")
_TRAILER: Final = struct.Struct("<I8s")


class DamagedError(Exception):
    """Bytes are not what this module wrote; the message says in which way."""


class Block(NamedTuple):
    """Where a block of events is, and the digest of its bytes."""

    first_position: int
    events: int
    offset: int
    size: int
    sha256: bytes

    @property
    def last_position(self) -> int:
        """The position of its last event."""
        return self.first_position + self.events - 1


class Index(NamedTuple):
    """What is in a file, and where."""

    log_id: int
    chain: bytes
    blocks: tuple[Block, ...]

    @property
    def first_position(self) -> int:
        """The position of the first event in the file."""
        return self.blocks[0].first_position

    @property
    def last_position(self) -> int:
        """The position of the last event in the file."""
        return self.blocks[-1].last_position


class Line(NamedTuple):
    """An event as text, and the hash that was stored beside it."""

    text: bytes
    row_hash: bytes


def pack_block(lines: Sequence[Line]) -> bytes:
    """Return a block of lines."""
    text = b"".join(line.text + b"\n" for line in lines)
    hashes = b"".join(line.row_hash for line in lines)
    # zstd's own checksum lets any zstd program notice a damage.
    compressor = _zstandard().ZstdCompressor(level=LEVEL, write_checksum=True)
    frame: bytes = compressor.compress(text)
    return frame + _skippable(hashes)


def unpack_block(raw: bytes, *, events: int) -> Iterator[Line]:
    """Return the lines of a block.

    Raises:
        DamagedError: it is not a block of so many lines.
    """
    hashes_size = events * HASH_BYTES
    frame, hashes = raw[: -hashes_size - _HEADER.size], raw[-hashes_size:]
    if raw[len(frame) :] != _skippable(hashes):
        raise DamagedError("has a block without hashes")
    lines = _decompress(frame).split(b"\n")
    if len(lines) != events + 1 or lines[-1]:
        raise DamagedError("has a block with another number of events")
    return (
        Line(text, hashes[start : start + HASH_BYTES])
        for text, start in zip(lines[:-1], range(0, hashes_size, HASH_BYTES), strict=True)
    )


def pack_index(index: Index) -> bytes:
    """Return the end of a file."""
    blocks = [[*block[:-1], block.sha256.hex()] for block in index.blocks]
    facts = {"format": _FORMAT, "log_id": index.log_id, "chain": index.chain.hex()}
    packed = _zstandard().ZstdCompressor().compress(orjson.dumps({**facts, "blocks": blocks}))
    trailer = _TRAILER.pack(_HEADER.size + len(packed) + _TRAILER.size, _MAGIC)
    return _skippable(packed + trailer)


TRAILER_BYTES: Final = _TRAILER.size


def index_size(trailer: bytes) -> int:
    """Return the length of the index from the last bytes of a file.

    Raises:
        DamagedError: they are not those of an archive.
    """
    if len(trailer) != _TRAILER.size:
        raise DamagedError("is too short")
    size, magic = _TRAILER.unpack(trailer)
    if magic != _MAGIC or size < _HEADER.size + _TRAILER.size:
        raise DamagedError("does not end as an archive does")
    return int(size)


def unpack_index(raw: bytes) -> Index:
    """Return the index.

    Raises:
        DamagedError: it is none.
    """
    try:
        facts = orjson.loads(_decompress(raw[_HEADER.size : -_TRAILER.size]))
        if facts["format"] != _FORMAT:
            raise DamagedError("was written by a newer release")
        blocks = tuple(_block(*entry[:-1], sha256=entry[-1]) for entry in facts["blocks"])
        index = Index(int(facts["log_id"]), bytes.fromhex(facts["chain"]), blocks)
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError("has no readable index") from error
    if not blocks or any(b.first_position != a.last_position + 1 for a, b in pairwise(blocks)):
        raise DamagedError("has an index with holes")
    return index


def _block(*numbers: int, sha256: str) -> Block:
    first_position, events, offset, size = map(int, numbers)
    block = Block(first_position, events, offset, size, bytes.fromhex(sha256))
    if (
        min(block[:4]) < 0
        or block.events < 1
        or block.size > LARGEST_BLOCK
        or block.offset > _LARGEST_FILE
    ):
        raise DamagedError("has a block of an impossible size")
    return block


def _skippable(payload: bytes) -> bytes:
    return _HEADER.pack(_SKIPPABLE, len(payload)) + payload


def _decompress(frame: bytes) -> bytes:
    zstandard = _zstandard()
    try:
        # Asked first: the size a frame claims is what would be allocated.
        if zstandard.frame_content_size(frame) not in range(LARGEST_BLOCK):
            raise DamagedError("has a block of an impossible size")
        text: bytes = zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise DamagedError(f"cannot be decompressed: {error}") from error
    return text


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise ConfigurationError(
            "archived events need zstandard: pip install 'rootstream-db[archive]'"
        ) from error
    return zstandard
