"""The form of archive files: what goes in comes out, and nothing else passes for it."""

from __future__ import annotations

import hashlib
import io

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from rootstream_db.services.event_archive import framing, writer
from rootstream_db.services.event_archive.framing import Block, DamagedError, Index, Line

TEXTS = st.lists(
    st.binary(max_size=200).filter(lambda text: b"\n" not in text), min_size=1, max_size=30
)


def lines_of(texts):
    return [Line(text, hashlib.sha256(text).digest()) for text in texts]


@given(texts=TEXTS)
def test_a_block_gives_back_its_lines(texts):
    lines = lines_of(texts)
    packed = framing.pack_block(lines)
    assert lines == list(framing.unpack_block(packed, events=len(lines)))


@given(texts=TEXTS, place=st.integers(min_value=0), bit=st.integers(0, 7))
@settings(max_examples=300)
def test_a_flipped_bit_of_a_block_is_an_error_or_changes_no_text(texts, place, bit):
    """The digest of the block is what notices all of them; here nothing may come out wrong."""
    lines = lines_of(texts)
    packed = bytearray(framing.pack_block(lines))
    packed[place % len(packed)] ^= 1 << bit
    try:
        found = list(framing.unpack_block(bytes(packed), events=len(lines)))
    except DamagedError:
        return
    assert texts == [line.text for line in found]


@given(raw=st.binary(max_size=300), events=st.integers(1, 5))
def test_bytes_that_are_no_block_are_refused(raw, events):
    with pytest.raises(DamagedError):
        list(framing.unpack_block(raw, events=events))


@given(raw=st.binary(max_size=300))
def test_bytes_that_are_no_index_are_refused(raw):
    with pytest.raises(DamagedError):
        framing.unpack_index(raw)


@given(texts=TEXTS, events=st.integers(1, 7))
def test_any_zstd_program_reads_a_whole_file(texts, events):
    file = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "BLOCK_EVENTS", events)
        made = writer.ArchiveWriter(file, log_id=0, first_position=5)
        for line in lines_of(texts):
            made.add(line)
        made.finish(bytes(32))
    content = file.getvalue()
    index = framing.unpack_index(content[-framing.index_size(content[-framing.TRAILER_BYTES :]) :])
    assert (5, 4 + len(texts)) == (index.first_position, index.last_position)
    plain = zstandard.ZstdDecompressor().stream_reader(content, read_across_frames=True).read()
    assert b"".join(text + b"\n" for text in texts) == plain


@pytest.mark.parametrize(
    "blocks",
    [
        (),
        (Block(1, 0, 0, 1, bytes(32)),),
        (Block(1, 1, -1, 1, bytes(32)),),
        (Block(1, 1, 2**63, 1, bytes(32)),),
        (Block(1, 1, 0, 2**62, bytes(32)),),
        (Block(1, 2, 0, 9, bytes(32)), Block(4, 1, 9, 9, bytes(32))),
    ],
    ids=[
        "no block",
        "an empty block",
        "a block before the file",
        "a block beyond any file",
        "a block that would fill the memory",
        "a hole",
    ],
)
def test_an_index_that_cannot_be_is_refused(blocks):
    with pytest.raises(DamagedError):
        framing.unpack_index(framing.pack_index(Index(0, bytes(32), blocks)))


def test_a_frame_that_claims_to_be_huge_is_not_unpacked(monkeypatch):
    packed = framing.pack_block(lines_of([b"x" * 1000]))
    monkeypatch.setattr(framing, "LARGEST_BLOCK", 1000)
    with pytest.raises(DamagedError, match="impossible size"):
        framing.unpack_block(packed, events=1)
