"""What is taken from what clients and media servers write."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootstream_db.errors import ValidationError
from rootstream_db.services.ingest.requests import (
    HookEvent,
    IngestRequest,
    address,
    field,
    printable,
)

PUBLIC_ID = "3d9e5a3a-52c4-4f0e-8d7b-0a3bb0a8f6aa"


def request(
    node: str = "edge-1", connection_id: str = "17", public_id: str | None = None
) -> IngestRequest:
    return IngestRequest(
        event=HookEvent.PLAY, node=node, connection_id=connection_id, public_id=public_id
    )


def test_a_connection_has_one_name_in_all_its_hooks():
    assert "edge-1/17" == request().owner


@pytest.mark.parametrize("text", [PUBLIC_ID, PUBLIC_ID.upper()])
def test_a_public_id_is_a_uuid(text: str):
    assert uuid.UUID(PUBLIC_ID) == request(public_id=text).public_uuid


@pytest.mark.parametrize(
    "text", ["", "rsk_secret", f"{{{PUBLIC_ID}}}", PUBLIC_ID.replace("-", ""), f"{PUBLIC_ID}\n"]
)
def test_other_names_are_no_public_id(text: str):
    assert request(public_id=text).public_uuid is None


def test_a_request_need_not_name_a_stream():
    assert request().public_uuid is None


@pytest.mark.parametrize(
    "over",
    [
        {"node": ""},
        {"node": "n" * 101},
        {"node": "a\nb"},
        {"node": " a"},
        {"connection_id": ""},
        {"connection_id": "c" * 91},
        {"connection_id": "\x1b[31m"},
    ],
)
def test_names_that_would_not_fit_or_not_show_are_refused(over: dict[str, str]):
    with pytest.raises(ValidationError):
        request(**over)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:DB8::1", "2001:db8::1"),
        ("unix:", None),
        ("", None),
        (None, None),
        ("203.0.113.9:80", None),
    ],
)
def test_only_ip_addresses_are_kept(text: str | None, expected: str | None):
    assert expected == address(text)


@given(st.text(), st.integers(1, 50))
def test_what_a_client_says_of_itself_is_short_and_printable(text: str, limit: int):
    kept = printable(text, limit)

    assert kept is None or (0 < len(kept) <= limit and kept.isprintable())


def test_text_without_anything_to_show_is_none():
    assert printable("\0\x1b\n ", 10) is None
    assert printable(None, 10) is None


@pytest.mark.parametrize("value", [None, "", 7, [], "a\0b"])
def test_a_field_that_cannot_be_used_is_refused(value: object):
    with pytest.raises(ValidationError):
        field({"name": value}, "name")
