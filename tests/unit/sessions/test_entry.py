"""Cached entries: what goes in comes out, and nothing else is believed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootstream_db.errors import ValidationError
from rootstream_db.security.assurance import MfaMethod
from rootstream_db.services.sessions.entry import (
    ENTRY_BYTES,
    METHODS,
    Entry,
    EntryCodec,
    microseconds,
    moment,
)

CODEC, DIGEST = EntryCodec(b"k" * 32), b"d" * 32
NUMBERS = st.integers(-(2**63), 2**63 - 1)
ENTRIES = st.builds(
    Entry,
    *[NUMBERS] * 4,
    st.integers(0, 3),
    st.sampled_from(sorted(METHODS)),
    *[NUMBERS] * 6,
    st.binary(min_size=16, max_size=16),
)


@given(ENTRIES)
def test_an_entry_comes_out_as_it_went_in(entry):
    value = CODEC.encode(DIGEST, entry)
    assert ENTRY_BYTES == len(value)
    assert entry == CODEC.decode(DIGEST, value)


@given(ENTRIES, st.binary(max_size=200))
def test_nothing_else_is_an_entry(entry, other):
    value = CODEC.encode(DIGEST, entry)
    assert None is CODEC.decode(DIGEST, other)
    assert None is CODEC.decode(b"e" * 32, value)
    assert None is EntryCodec(b"l" * 32).decode(DIGEST, value)


@given(ENTRIES, st.integers(0, ENTRY_BYTES - 1), st.integers(1, 255))
def test_an_entry_with_one_byte_changed_is_none(entry, position, change):
    value = bytearray(CODEC.encode(DIGEST, entry))
    value[position] ^= change
    assert None is CODEC.decode(DIGEST, bytes(value))


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - the zone is given apart
def test_a_moment_survives_to_the_microsecond(time):
    assert time == moment(microseconds(time))


def test_a_moment_is_the_same_in_every_zone():
    time = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert microseconds(time) == microseconds(time.astimezone(timezone(timedelta(hours=2))))
    with pytest.raises(ValidationError):
        microseconds(time.replace(tzinfo=None))


def test_every_method_has_a_number():
    assert {None, *MfaMethod} == set(METHODS.values())
