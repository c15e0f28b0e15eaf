"""Rows that tests need, valid unless they say otherwise."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from rootstream_db.models import Stream, StreamLive, StreamTotals, User, UserSession
from rootstream_db.security.assurance import AssuranceLevel
from rootstream_db.security.token_mint import TokenMint
from rootstream_db.settings import SecuritySettings

if TYPE_CHECKING:
    from rootstream_db.unit_of_work import UnitOfWork

MINT: Final = TokenMint(SecuritySettings().peppers())
"""The mint of development, the one that ``rs.tokens`` is in tests."""


def make_user(work: UnitOfWork, **overrides: Any) -> User:
    """Insert an account nobody else has."""
    name = f"user_{secrets.token_hex(6)}"
    values = {"username": name, "email": f"{name}@example.com", "password_hash": "none"}
    return work.users.add(User(**{**values, **overrides}))


def make_session(work: UnitOfWork, user: User | None = None, **overrides: Any) -> UserSession:
    """Insert a session of a day as of now, as a password login leaves it."""
    user = user or make_user(work)
    values: dict[str, Any] = {
        "user_id": user.id,
        "token_hash": secrets.token_bytes(32),
        "token_version": 1,
        "generation": 1,
        "auth_epoch": user.auth_epoch,
        "level": AssuranceLevel.PASSWORD,
        "authenticated_at": work.now,
        "last_seen_at": work.now,
        "expires_at": work.now + timedelta(days=1),
    }
    values |= overrides
    return work.sessions.add(UserSession(**{"idle_expires_at": values["expires_at"], **values}))


def make_stream(work: UnitOfWork, owner: User | None = None, **overrides: Any) -> Stream:
    """Insert a stream with its live and totals rows."""
    owner = owner or make_user(work)
    stream = work.streams.add(Stream(**{"owner_id": owner.id, "name": "A stream", **overrides}))
    work.stream_live.add(StreamLive(stream_id=stream.id))
    work.stream_totals.add(StreamTotals(stream_id=stream.id))
    return stream
