"""Who else keeps sessions: Django, Flask-Session, and bare look-ups without any rules."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

import django
import flask
import flask_session
import redis
from django.conf import settings as django_settings
from django.core.cache import caches
from django.db import connection as django_connection
from psycopg.conninfo import conninfo_to_dict
from werkzeug.test import EnvironBuilder

from rootstream_db import RootStream
from scripts.benchmarks.foundation.rows import Held, address, connect

SCHEMA: Final = "benchmark_peers"
PREFIX: Final = "benchmark-peers"
CONTENT: Final = {
    "_auth_user_id": "4711",
    "_auth_user_backend": "django.contrib.auth.backends.ModelBackend",
    "_auth_user_hash": "5f0d7c9c1a0f4d1f8f3b4d0e9a7c6b5a4938271605f4e3d2c1b0a99887766554",
}
"""What Django keeps about somebody who is logged in; all peers keep the same."""

_FIND: Final = """
SELECT s.id, s.user_id, s.level, s.authenticated_at, s.idle_expires_at, s.expires_at, s.revoked_at
FROM sessions AS s WHERE s.token_hash = %s
"""


class Opener(Protocol):
    """Opens sessions.

    Attributes:
        name: how the table calls it.
    """

    name: str

    def create(self) -> Any:
        """Open a session and return what its client would send."""

    def renew(self) -> object:
        """Take new connections."""


class Peer(Opener, Protocol):
    """Opens and finds sessions."""

    def find(self, key: Any) -> object:
        """Return whose session it is, or None."""


def redis_url(rootstream: RootStream) -> str:
    """Return where Redis is."""
    url = rootstream.settings.redis.url
    if url is None:
        raise ValueError("the benchmark needs a Redis")
    return url.get_secret_value()


@contextmanager
def peers_at(rootstream: RootStream) -> Iterator[None]:
    """Have what the peers need in both servers, and remove it afterwards."""
    with connect(rootstream, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {SCHEMA}")
    try:
        _set_up_django(rootstream)
        yield
    finally:
        django_connection.close()
        with connect(rootstream, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA {SCHEMA} CASCADE")
        with redis.Redis.from_url(redis_url(rootstream)) as client:
            for key in client.scan_iter(f"*{PREFIX}*"):
                client.delete(key)


def _set_up_django(rootstream: RootStream) -> None:
    known = conninfo_to_dict(address(rootstream))
    if not django_settings.configured:
        # Once for the process: Django has no second configuration.
        django_settings.configure(
            SECRET_KEY="benchmark",  # noqa: S106 - signs sessions that are gone in a minute
            INSTALLED_APPS=["django.contrib.sessions"],
            DATABASES={
                "default": {
                    "ENGINE": "django.db.backends.postgresql",
                    "NAME": known.get("dbname", "postgres"),
                    "USER": known.get("user", ""),
                    "PASSWORD": known.get("password", ""),
                    "HOST": known.get("host", ""),
                    "PORT": known.get("port", ""),
                    "CONN_MAX_AGE": None,
                    "OPTIONS": {"options": f"-c search_path={SCHEMA}"},
                }
            },
            CACHES={
                "default": {
                    "BACKEND": "django.core.cache.backends.redis.RedisCache",
                    "LOCATION": redis_url(rootstream),
                    "KEY_PREFIX": PREFIX,
                }
            },
            USE_TZ=True,
        )
        django.setup()
    from django.contrib.sessions.models import Session

    with django_connection.schema_editor() as editor:
        editor.create_model(Session)


class DjangoSessions:
    """Sessions of Django as its middleware uses them; the connection stays open between requests.

    Args:
        backend: ``db`` or ``cached_db``.
    """

    def __init__(self, backend: str) -> None:
        from importlib import import_module

        self.name = f"Django {django.__version__}, {backend}"
        self._store = import_module(f"django.contrib.sessions.backends.{backend}").SessionStore

    def create(self) -> str:
        """Save a new session, as the middleware does after a login."""
        store = self._store()
        store.update(CONTENT)
        store.save()
        key: str = store.session_key
        return key

    def find(self, key: str) -> object:
        """Load a session to see who is logged in."""
        return self._store(key).get("_auth_user_id")

    def renew(self) -> None:
        """Connect anew."""
        django_connection.close()
        caches["default"].close()


class FlaskSessions:
    """Sessions of Flask-Session in Redis, as Flask opens and saves them around a request."""

    name = "Flask-Session, redis"

    def __init__(self, rootstream: RootStream) -> None:
        self._redis = redis.Redis.from_url(redis_url(rootstream))
        self._app = flask.Flask("benchmark")
        self._app.config |= {
            "SESSION_TYPE": "redis",
            "SESSION_REDIS": self._redis,
            "SESSION_KEY_PREFIX": f"{PREFIX}:",
        }
        flask_session.Session(self._app)
        self._interface = self._app.session_interface
        self._newcomer = self._request({})

    def create(self) -> flask.Request:
        """Save a new session and return the next request of its client."""
        session: Any = self._interface.open_session(self._app, self._newcomer)
        session.update(CONTENT)
        self._interface.save_session(self._app, session, self._app.response_class())
        return self._request({"Cookie": f"session={session.sid}"})

    def find(self, key: flask.Request) -> object:
        """Open the session of a request to see who is logged in."""
        session = self._interface.open_session(self._app, key)
        return None if session is None else session.get("_auth_user_id")

    def renew(self) -> None:
        """Connect anew."""
        self._redis.connection_pool.disconnect()

    def _request(self, headers: dict[str, str]) -> flask.Request:
        environment = EnvironBuilder(headers=list(headers.items())).get_environ()
        return self._app.request_class(environment)


class RawRedis:
    """One GET of a value as long as ours, on redis-py's pool with hiredis: nothing is checked."""

    name = "redis-py, pooled GET"

    def __init__(self, rootstream: RootStream, *, value_bytes: int) -> None:
        self._redis = redis.Redis.from_url(redis_url(rootstream))
        self._value = bytes(value_bytes)
        self._numbers = itertools.count()

    def create(self) -> str:
        """Set a value."""
        key = f"{PREFIX}:raw:{next(self._numbers):064x}"
        self._redis.set(key, self._value, ex=86_400)
        return key

    def find(self, key: str) -> object:
        """Get a value."""
        return self._redis.get(key)

    def renew(self) -> None:
        """Connect anew."""
        self._redis.connection_pool.disconnect()


class RawPsycopg:
    """One prepared SELECT by the token's digest on a connection that is held.

    Args:
        rootstream: where sessions are.
        digests: digests of sessions that are there.
    """

    name = "psycopg, connection held, SELECT"

    def __init__(self, rootstream: RootStream, digests: Sequence[bytes]) -> None:
        self._held = Held(rootstream, autocommit=True)
        self._digests = itertools.cycle(digests)
        self.renew: Callable[[], object] = self._held.renew
        self.close = self._held.close

    def create(self) -> bytes:
        """Return the digest of a session that is there already."""
        return next(self._digests)

    def find(self, key: bytes) -> object:
        """Select a session."""
        return self._held.connection.execute(_FIND, (key,)).fetchone()
