from __future__ import annotations

import io
import random

import pytest

from rootstream_db.services.media_probe import probe

WHOLE = ("whole.flv", "whole.mp4", "whole.mkv", "whole.ts", "fragments.mp4")


def damaged(content, chance):
    """Return the content with bytes changed, cut off or taken out."""
    body = bytearray(content)
    start = chance.randrange(1, len(body))
    match chance.choice(["change", "cut", "take out"]):
        case "change":
            for _ in range(chance.choice([1, 10, 500])):
                body[chance.randrange(len(body))] = chance.randrange(256)
        case "cut":
            del body[start:]
        case _:
            del body[start : start + chance.randrange(1, 5000)]
    return bytes(body)


@pytest.mark.parametrize("name", WHOLE)
def test_a_damaged_file_is_described_or_unreadable_but_never_an_error(media, name):
    content = (media / name).read_bytes()
    chance = random.Random(name)
    for _ in range(25):
        facts = probe(io.BytesIO(damaged(content, chance)), name=name)

        assert facts is None or facts.duration_seconds >= 0


@pytest.mark.parametrize("length", [1, 13, 300])
def test_a_header_without_a_single_frame_is_unreadable(media, length):
    header = (media / "whole.flv").read_bytes()[:length]

    assert probe(io.BytesIO(header), name="whole.flv") is None
