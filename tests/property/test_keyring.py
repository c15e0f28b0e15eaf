"""Whatever is sealed opens in its own place, and nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rootstream_db.errors import SealError
from rootstream_db.security.keyring import KeyRing, row_context

RING = KeyRing({number: bytes([number % 256]) * 32 for number in (1, 2, 300)}, writer=2)
NAMES = st.text(max_size=12)
PARTS = st.one_of(st.integers(), st.uuids(), st.text(max_size=8), st.binary(max_size=8))
PLACES = st.tuples(NAMES, st.lists(PARTS, min_size=1, max_size=3))


@given(st.binary(max_size=300), NAMES, PLACES)
def test_every_secret_opens_in_its_place(secret, purpose, place):
    context = row_context(place[0], *place[1])
    value = RING.seal(secret, purpose=purpose, context=context)
    assert secret == RING.open(value, purpose=purpose, context=context)
    assert 2 == KeyRing.key_id(value)


@given(st.binary(max_size=64), st.tuples(NAMES, PLACES), st.tuples(NAMES, PLACES))
def test_no_secret_opens_in_another_place(secret, one, other):
    assume(one != other)
    value = RING.seal(secret, purpose=one[0], context=row_context(one[1][0], *one[1][1]))
    with pytest.raises(SealError):
        RING.open(value, purpose=other[0], context=row_context(other[1][0], *other[1][1]))


@given(st.binary(max_size=64), st.data())
def test_no_changed_value_opens(secret, data):
    value = RING.seal(secret, purpose="p", context=b"c")
    changed = data.draw(
        st.one_of(
            st.binary(max_size=120),
            st.integers(0, len(value) - 1).map(lambda at: value[:at] + value[at + 1 :]),
            st.tuples(st.integers(0, len(value) - 1), st.integers(1, 255)).map(
                lambda flip: (
                    value[: flip[0]] + bytes([value[flip[0]] ^ flip[1]]) + value[flip[0] + 1 :]
                )
            ),
        )
    )
    assume(changed != value)
    with pytest.raises(SealError):
        RING.open(changed, purpose="p", context=b"c")


@given(st.lists(PLACES, min_size=2, max_size=6, unique_by=repr))
def test_different_rows_have_different_contexts(places):
    assert len(places) == len({row_context(table, *ids) for table, ids in places})
