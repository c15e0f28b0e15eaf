"""Hooks as HTTP: what an adapter reads from a call and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl

import orjson

from rootstream_db.errors import ValidationError
from rootstream_db.services.ingest.requests import Decision, IngestRequest

MAX_FIELDS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class HookCall:
    """One HTTP request of a media server.

    Attributes:
        method: GET or POST.
        action: what follows the media server's name in the path.
        options: the query that the operator wrote into the hook's URL.
        appended: the query that the media server put behind it (nginx-rtmp with GET).
        body: the request's body.
        remote_address: where the call came from.
    """

    method: str
    action: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    appended: str = ""
    body: bytes = b""
    remote_address: str = ""

    @property
    def node(self) -> str | None:
        """The name the operator gave the media server."""
        return self.options.get("node")

    def form(self) -> dict[str, str]:
        """Return the body as the fields of a form.

        Raises:
            ValidationError: it has too many.
        """
        return first_values(self.body.decode("utf-8", "replace"))

    def json(self) -> dict[str, Any]:
        """Return the body as a JSON object.

        Raises:
            ValidationError: it is none.
        """
        try:
            value = orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise ValidationError("the body is not JSON", field="body") from error
        if not isinstance(value, dict):
            raise ValidationError("the body is not a JSON object", field="body")
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class HookAnswer:
    """One HTTP response, in terms of the media server's own contract."""

    status: HTTPStatus
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


class HookAdapter(Protocol):
    """Speaks the hooks of one media server."""

    @property
    def methods(self) -> tuple[str, ...]:
        """The HTTP methods its hooks use."""
        ...

    @property
    def actions(self) -> tuple[str, ...]:
        """What may follow the server's name in the path; empty text for nothing."""
        ...

    def read(self, call: HookCall) -> IngestRequest | None:
        """Return what the call asks; None when it is only to be acknowledged.

        Raises:
            ValidationError: it is no hook of this server.
        """
        ...

    def answer(self, request: IngestRequest, decision: Decision) -> HookAnswer:
        """Tell the server what was decided."""
        ...

    def acknowledge(self) -> HookAnswer:
        """Tell the server that the hook was heard."""
        ...


def split_query(raw: str) -> tuple[str, str]:
    """Part the query of the hook's URL from what nginx-rtmp put behind it.

    With ``notify_method get`` the module writes a ``?`` and its fields, ``app`` first, behind the
    URL even when that has a query of its own. Publishers and viewers can add fields of their own
    at the end, so only the part in front may name the node or carry the hook token.
    """
    if raw.startswith("app="):
        return "", raw
    options, _, appended = raw.partition("?")
    return options, appended


def first_values(query: str) -> dict[str, str]:
    """Return the fields of a query; of fields with the same name the first counts.

    Media servers put what a client chose behind their own fields: a client that publishes to
    ``…/key?addr=10.0.0.1`` does not thereby change its address.

    Raises:
        ValidationError: there are more than ``MAX_FIELDS``.
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise ValidationError(f"more than {MAX_FIELDS} fields", field="body") from error
    fields: dict[str, str] = {}
    for name, value in pairs:
        fields.setdefault(name, value)
    return fields
