"""Payloads: what is accepted comes back from PostgreSQL unchanged, the rest is refused by path."""

from __future__ import annotations

import math

import orjson
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootstream_db.errors import ValidationError
from rootstream_db.services.event_store.payload import encode

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXT,
)
VALUES = st.recursive(
    SCALARS, lambda inside: st.lists(inside) | st.dictionaries(TEXT, inside), max_leaves=20
)
PAYLOADS = st.dictionaries(TEXT, VALUES, max_size=8)
REFUSED = st.one_of(
    st.sampled_from([math.nan, math.inf, -math.inf]),
    st.integers(min_value=2**63),
    st.integers(max_value=-(2**63) - 1),
    st.text().map(lambda text: f"{text}\0"),
    st.text().map(lambda text: f"\ud800{text}"),
    st.binary(),
    st.datetimes(),
    st.sets(st.integers()),
    st.complex_numbers(),
)
STEPS = st.lists(st.integers(0, 3) | st.sampled_from(["a", "b_1", "two words"]), max_size=6)


@pytest.fixture(scope="module")
def connection(worker_database_url):
    with psycopg.connect(worker_database_url, autocommit=True) as connection:
        yield connection


@settings(deadline=None)
@given(payload=PAYLOADS)
def test_what_is_accepted_comes_back_from_postgresql_equal(connection, payload):
    sent = encode(payload, "data").decode()
    (stored,) = connection.execute("SELECT (%s::jsonb)::text", [sent]).fetchone()
    assert alike(payload, orjson.loads(stored))


def alike(sent: object, stored: object) -> bool:
    """Compare floats as floats: JSON does not say that 1e16 is one."""
    match sent:
        case dict():
            return (
                isinstance(stored, dict)
                and sent.keys() == stored.keys()
                and all(alike(value, stored[key]) for key, value in sent.items())
            )
        case list():
            return isinstance(stored, list) and (
                len(sent) == len(stored) and all(map(alike, sent, stored))
            )
        case float():
            return isinstance(stored, int | float) and sent == float(stored)
        case _:
            return type(sent) is type(stored) and sent == stored


@settings(deadline=None)
@given(payload=PAYLOADS)
def test_what_came_back_is_accepted_and_comes_back_the_same_again(connection, payload):
    """The text of jsonb is a fixed point, so that a hash of it can be made again."""
    texts = [encode(payload, "data").decode()]
    for _ in range(2):
        (stored,) = connection.execute("SELECT (%s::jsonb)::text", texts[-1:]).fetchone()
        texts.append(stored)
    assert texts[1] == texts[2]


@given(steps=STEPS, bad=REFUSED)
def test_a_refusal_names_the_path_to_the_culprit(steps, bad):
    value, path = bad, ""
    for step in reversed(steps):
        if isinstance(step, int):
            value, path = [0] * step + [value], f"[{step}]{path}"
        else:
            value, path = {step: value}, f"{written(step)}{path}"
    with pytest.raises(ValidationError) as raised:
        encode({"x": value}, "data")
    assert f"data.x{path}" == raised.value.field


def written(step: str) -> str:
    return f".{step}" if step.isidentifier() else f"[{step!r}]"
