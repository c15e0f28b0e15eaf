"""The sessions of this package, as their rivals are asked."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from pydantic import SecretStr

from rootstream_db import RootStream, Settings
from rootstream_db.clock import utc_now
from rootstream_db.models import User
from rootstream_db.repositories.session_rows import OPEN_SQL, NewSession
from rootstream_db.security.assurance import AssuranceLevel
from rootstream_db.security.tokens import SecretText, TokenKind
from scripts.benchmarks.foundation.rows import Held, make_users

CLIENT: Any = {
    "device_fingerprint": "Firefox 141/Linux/en",
    "device_label": "Firefox on Linux",
    "ip_address": "192.0.2.17",
    "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0",
}
"""What is known of every client."""

NOWHERE = "redis://127.0.0.1:1/0"
"""A Redis that refuses connections."""


class OurSessions:
    """``rs.sessions``.

    Args:
        rootstream: where sessions are.
        name: how the table calls it.
        users: accounts that log in in turns.
    """

    def __init__(self, rootstream: RootStream, name: str, users: Sequence[User]) -> None:
        self.name = name
        self.find: Callable[[Any], object] = rootstream.sessions.validate
        self.refresh: Callable[[Any], object] = rootstream.sessions.refresh
        self.renew: Callable[[], object] = rootstream.database.engine.dispose
        self._rootstream = rootstream
        self._users = itertools.cycle(users)

    def create(self) -> SecretText:
        """Open a session, with its row, its event and its entry in the cache."""
        rootstream = self._rootstream
        with rootstream.transaction() as work:
            return rootstream.sessions.create(work, next(self._users), **CLIENT).token


class OpenSessionAlone:
    """The statement that opens a session, and nothing else: no event, no cache, no unit of work.

    Args:
        rootstream: where sessions are.
        users: accounts that log in in turns.
    """

    name = "psycopg, open_session alone"

    def __init__(self, rootstream: RootStream, users: Sequence[User]) -> None:
        self._held = Held(rootstream, autocommit=True)
        self._users = itertools.cycle(users)
        self._mint = rootstream.tokens
        self.renew: Callable[[], object] = self._held.renew
        self.close = self._held.close

    def create(self) -> SecretText:
        """Open a session."""
        now, user, token = utc_now(), next(self._users), self._mint.issue(TokenKind.SESSION)
        new = NewSession(
            user_id=user.id,
            auth_epoch=user.auth_epoch,
            token_hash=token.digest,
            token_version=token.version,
            now=now,
            idle_expires_at=now + timedelta(days=1),
            expires_at=now + timedelta(days=30),
            level=AssuranceLevel.PASSWORD,
            mfa_method=None,
            authenticated_at=now,
            mfa_at=None,
            device_fingerprint=None,
            device_label=CLIENT["device_label"],
            ip_address=CLIENT["ip_address"],
            user_agent=CLIENT["user_agent"],
            location=None,
            limit=10,
        )
        self._held.connection.execute(OPEN_SQL, new.parameters()).fetchone()
        return token.text


def load_users(rootstream: RootStream, prefix: str, count: int) -> list[User]:
    """Make accounts and return them as a login has them."""
    ids = make_users(rootstream, prefix, count)
    with rootstream.database.read() as work:
        return [work.users.get_one(key) for key in ids]


def beside(
    rootstream: RootStream,
    *,
    redis_url: str | None = None,
    clock: Callable[[], Any] = utc_now,
    **sessions: object,
) -> RootStream:
    """Return another process's view of the same servers, with some settings changed."""
    settings: Settings = rootstream.settings
    changes: dict[str, Any] = {"sessions": settings.sessions.model_copy(update=sessions)}
    if redis_url is not None:
        changes["redis"] = settings.redis.model_copy(update={"url": SecretStr(redis_url)})
    return RootStream(settings.model_copy(update=changes), clock=clock)
