"""What may become part of an event, and how the rest is refused."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import NamedTuple

import orjson
import pytest
from pydantic import SecretStr

from rootstream_db.errors import ValidationError
from rootstream_db.security.tokens import SecretText
from rootstream_db.services.event_store.payload import MAX_DEPTH, MAX_PAYLOAD_BYTES, encode


class Kind(StrEnum):
    LIVE = "live"


class Level(IntEnum):
    HIGH = 3


class Odd(Enum):
    SET = frozenset({1})


class Pair(NamedTuple):
    left: int
    right: int


@dataclass
class Point:
    x: int


class Real(float):
    """A subclass, as numpy's float64 is one."""


class Moment(datetime):
    """A subclass, as pendulum's DateTime is one."""


class Text(str):
    __slots__ = ()


PLUS_ONE = timezone(timedelta(hours=1))


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (None, None),
        (True, True),
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
        (1.5, 1.5),
        (Real(2.5), 2.5),
        ("ü€😀", "ü€😀"),
        (Text("text"), "text"),
        (Kind.LIVE, "live"),
        (Level.HIGH, 3),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (Decimal("12.30"), "12.30"),
        (datetime(2026, 1, 1, 12, tzinfo=UTC), "2026-01-01T12:00:00+00:00"),
        (datetime(2026, 1, 1, 12, 0, 0, 5, tzinfo=PLUS_ONE), "2026-01-01T12:00:00.000005+01:00"),
        (Moment(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00+00:00"),
        ((1, 2), [1, 2]),
        ([{"a": []}, {}], [{"a": []}, {}]),
    ],
    ids=repr,
)
def test_a_value_that_json_can_carry_is_encoded(value, stored):
    assert {"x": stored} == orjson.loads(encode({"x": value}, "data"))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (math.nan, "not a finite number"),
        (math.inf, "not a finite number"),
        (Real("-inf"), "not a finite number"),
        (Decimal("NaN"), "not a finite number"),
        (2**63, "beyond 64 bits"),
        (-(2**63) - 1, "beyond 64 bits"),
        ("a\0b", "NUL"),
        ("ü\0", "NUL"),
        ("\ud800", "surrogate"),
        (datetime(2026, 1, 1), "naive"),  # noqa: DTZ001 - the mistake under test
        (b"bytes", "a bytes"),
        (bytearray(b"x"), "a bytearray"),
        (date(2026, 1, 1), "a date"),
        (timedelta(1), "a timedelta"),
        ({1, 2}, "a set"),
        (Pair(1, 2), "a Pair"),
        (Point(1), "a Point"),
        (object(), "an object"),
        (Odd.SET, "a frozenset"),
        (SecretText("rsk_abc"), "a secret"),
        (SecretStr("hidden"), "a SecretStr"),
    ],
    ids=lambda value: type(value).__name__ if type(value) is object else ascii(value)[:40],
)
def test_a_value_that_would_be_lost_or_changed_is_refused(value, reason):
    with pytest.raises(ValidationError, match=reason) as raised:
        encode({"list": [0, {"x": value}]}, "data")
    assert "data.list[1].x" == raised.value.field
    assert str(raised.value).startswith("data.list[1].x ")


@pytest.mark.parametrize("key", [1, None, True, (1,), Text("text"), Kind.LIVE], ids=repr)
def test_a_key_that_is_not_text_is_refused(key):
    with pytest.raises(ValidationError, match="keys are text") as raised:
        encode({"a": {key: 1}}, "data")
    assert "data.a" == raised.value.field


@pytest.mark.parametrize("key", ["a\0b", "\udfff"], ids=ascii)
def test_a_key_that_postgresql_cannot_store_is_refused(key):
    with pytest.raises(ValidationError, match=r"data\.a: a key contains"):
        encode({"a": {key: 1}}, "data")


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("viewers", "data.viewers"),
        ("two words", "data['two words']"),
        ("", "data['']"),
        ("x" * 100, f"data.{'x' * 40}"),
        ("-" * 100, f"data['{'-' * 40}']"),
    ],
)
def test_the_path_is_written_as_python_would(key, path):
    with pytest.raises(ValidationError) as raised:
        encode({key: b""}, "data")
    assert path == raised.value.field


def test_the_message_never_repeats_the_value():
    with pytest.raises(ValidationError) as raised:
        encode({"x": SecretText("rsk_very_secret")}, "data")
    assert "very_secret" not in f"{raised.value} {raised.value.as_dict()}"


def nested(levels):
    value: dict = {"leaf": 1}
    for _ in range(levels):
        value = {"a": value}
    return value


def test_nesting_has_a_limit():
    assert encode(nested(MAX_DEPTH), "data")
    with pytest.raises(ValidationError, match=f"deeper than {MAX_DEPTH} levels"):
        encode(nested(MAX_DEPTH + 1), "data")


def test_a_payload_that_contains_itself_is_refused():
    endless: dict = {}
    endless["again"] = [endless]
    with pytest.raises(ValidationError, match="deeper"):
        encode(endless, "data")


def test_the_size_has_a_limit():
    filler = MAX_PAYLOAD_BYTES - len('{"x":""}')
    assert MAX_PAYLOAD_BYTES == len(encode({"x": "x" * filler}, "data"))
    with pytest.raises(ValidationError, match="1,048,577 bytes of JSON, 1,048,576 allowed"):
        encode({"x": "x" * (filler + 1)}, "data")


@pytest.mark.parametrize("payload", [None, [], "text", 7, [("a", 1)]], ids=repr)
def test_a_payload_is_an_object(payload):
    with pytest.raises(ValidationError, match="is a JSON object, a dict, not a") as raised:
        encode(payload, "metadata")
    assert "metadata" == raised.value.field
