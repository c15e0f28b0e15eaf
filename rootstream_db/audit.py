"""Who is behind the work in progress: what every event recorded meanwhile says about it."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from ipaddress import ip_address as parse_ip_address
from typing import TYPE_CHECKING, Final

from rootstream_db.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_TEXT: Final = 400
"""Characters kept of what a client says about itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditContext:
    """Who acts, from where, on whose behalf.

    Attributes:
        user_id: the account that acts.
        on_behalf_of: the account it acts for, for example a customer whom support helps.
        ip_address: where the request came from.
        user_agent: what the client calls itself.
        request_id: the request.
    """

    user_id: int | None = None
    on_behalf_of: int | None = None
    ip_address: str | None = None
    user_agent: str | None = None
    request_id: str | None = None

    def facts(self) -> dict[str, object]:
        """Return what is known beside the user, as an event's metadata carries it."""
        names = ("on_behalf_of", "ip_address", "user_agent", "request_id")
        known = {name: getattr(self, name) for name in names}
        return {name: value for name, value in known.items() if value is not None}


_current: ContextVar[AuditContext | None] = ContextVar("rootstream_audit", default=None)


def current_audit_context() -> AuditContext | None:
    """Return what the ``acting`` blocks around this thread or task say."""
    return _current.get()


@contextmanager
def acting(
    *,
    user_id: int | None = None,
    on_behalf_of: int | None = None,
    ip_address: str | None = None,
    user_agent: str | None = None,
    request_id: str | None = None,
) -> Iterator[AuditContext]:
    """Record with every event appended inside the block who acts, from where, on whose behalf.

    Blocks add to one another: the outer one may know the request, an inner one the user.

    >>> with acting(ip_address="192.0.2.7"), acting(user_id=7) as context:
    ...     (context.user_id, context.ip_address)
    (7, '192.0.2.7')

    Raises:
        ValidationError: ``ip_address`` is none.
    """
    given = AuditContext(
        user_id=user_id,
        on_behalf_of=on_behalf_of,
        ip_address=_address(ip_address),
        user_agent=_printable(user_agent),
        request_id=_printable(request_id),
    )
    outer = _current.get()
    token = _current.set(given if outer is None else _joined(outer, given))
    try:
        yield _current.get() or given
    finally:
        _current.reset(token)


def _joined(outer: AuditContext, inner: AuditContext) -> AuditContext:
    known = {field.name: getattr(inner, field.name) for field in fields(inner)}
    return replace(outer, **{name: value for name, value in known.items() if value is not None})


def _address(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return str(parse_ip_address(text))
    except ValueError as error:
        raise ValidationError("ip_address is no IP address", field="ip_address") from error


def _printable(text: str | None) -> str | None:
    """Return text of a client's that every event can hold: no control characters, not too long."""
    if text is None:
        return None
    return "".join(one if one.isprintable() else "�" for one in text[:MAX_TEXT])
