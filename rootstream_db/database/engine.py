"""Build the SQLAlchemy engine: what is sent to PostgreSQL at connect, and when to distrust it."""

from __future__ import annotations

import os
import time
from typing import Any, Final

import orjson
import psycopg
from pydantic import SecretStr
from sqlalchemy import URL, Engine, ExceptionContext, QueuePool, create_engine, event, make_url
from sqlalchemy.exc import DisconnectionError, InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from rootstream_db.database.translation import DISCONNECT_STATES, hide_values, unsendable
from rootstream_db.errors import ValidationError
from rootstream_db.settings import DatabaseSettings

READ_ONLY_OPTION: Final = "rootstream_read_only"
"""Execution option of connections whose unit may not write."""

_PING_AFTER_IDLE: Final = 1.0
"""Seconds a pooled connection may rest before it is tested at its next use.

pool_pre_ping tests every time, which costs 15 % of a small transaction. A connection used a second
ago is nearly always alive, and when it is not the unit fails once and `Database.run` repeats it; a
connection that rested may have been cut by a firewall, a pooler or a restart without a trace.
"""

_INHERITED: Final[list[object]] = []
"""Connections of a parent process, kept from the garbage collector, which would complain."""


def build_engine(url: SecretStr, settings: DatabaseSettings, *, pool_size: int) -> Engine:
    """Return an engine for ``url`` whose connections carry the limits of ``settings``."""
    address = sqlalchemy_url(url)
    engine = create_engine(
        address,
        connect_args=connect_arguments(address, settings),
        poolclass=QueuePool,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=settings.pool_timeout,
        # The connection used last has warm caches and needs no test; the others may rest.
        pool_use_lifo=True,
        json_serializer=_to_json,
        json_deserializer=orjson.loads,
        use_native_hstore=False,
        # Parameters are data of users; errors and logs show the statement alone.
        hide_parameters=True,
    )
    event.listen(engine, "handle_error", _judge)
    event.listen(engine, "connect", _remember_process)
    event.listen(engine, "checkin", _lay_to_rest)
    event.listen(engine, "checkout", _test_after_rest)
    return engine


def connect_direct(settings: DatabaseSettings) -> psycopg.Connection[Any]:
    """Open an autocommit connection past the pooler, without statement and lock limits.

    It is for advisory locks, LISTEN and long jobs, which those limits would end.
    """
    url = settings.direct_url or settings.url
    assert url is not None  # noqa: S101 - Database refuses settings without a URL
    address = sqlalchemy_url(url)
    _, parameters = address.get_dialect()().create_connect_args(address)
    parameters = {**parameters, **_libpq_arguments(address, settings)}
    return psycopg.connect(**parameters, autocommit=True)


def sqlalchemy_url(url: SecretStr) -> URL:
    """Return ``url`` for SQLAlchemy: libpq's ``host1:1,host2:2`` becomes repeated ``host=``."""
    text = url.get_secret_value()
    _, _, rest = text.partition("://")
    netloc, slash, path = rest.partition("/")
    userinfo, at, hosts = netloc.rpartition("@")
    if "," in hosts:
        joint = "&" if "?" in path else "?"
        listed = "&".join(f"host={host}" for host in hosts.split(","))
        rest = f"{userinfo}{at}/{path}{joint}{listed}"
    elif not slash:
        rest = netloc
    return make_url(f"postgresql+psycopg://{rest}")


def connect_arguments(address: URL, settings: DatabaseSettings) -> dict[str, Any]:
    """Return what psycopg gets beside the URL; what the URL itself says wins."""
    arguments = _libpq_arguments(address, settings)
    if settings.pooler == "pgbouncer":
        # PgBouncer gives each transaction another server connection: a statement prepared on one
        # is unknown on the next. It also refuses the start-up parameter `options`.
        return arguments | {"prepare_threshold": None}
    limits = " ".join(f"-c {name}={value}" for name, value in time_limits(settings).items())
    own = address.query.get("options", "")
    return arguments | {"options": f"{limits} {own if isinstance(own, str) else ' '.join(own)}"}


def time_limits(settings: DatabaseSettings) -> dict[str, int]:
    """Return PostgreSQL's names of the limits on a statement, with milliseconds."""
    return {
        "statement_timeout": round(settings.statement_timeout * 1000),
        "lock_timeout": round(settings.lock_timeout * 1000),
        "idle_in_transaction_session_timeout": round(settings.idle_in_transaction_timeout * 1000),
    }


def local_limits(settings: DatabaseSettings) -> str:
    """Return a statement that sets the limits for one transaction, in one round trip."""
    calls = ", ".join(
        f"set_config('{name}', '{value}', true)" for name, value in time_limits(settings).items()
    )
    return f"SELECT {calls}"


def _libpq_arguments(address: URL, settings: DatabaseSettings) -> dict[str, Any]:
    silence = settings.keepalives_idle + settings.keepalives_interval * settings.keepalives_count
    hosts = address.query.get("host", ())
    wanted = {
        "connect_timeout": max(round(settings.connect_timeout), 1),
        "application_name": settings.application_name,
        "keepalives_idle": settings.keepalives_idle,
        "keepalives_interval": settings.keepalives_interval,
        "keepalives_count": settings.keepalives_count,
        # Keepalives do not cover data that was sent and never acknowledged.
        "tcp_user_timeout": silence * 1000,
        "sslmode": settings.sslmode,
        "sslrootcert": settings.sslrootcert,
        "sslcert": settings.sslcert and str(settings.sslcert),
        "sslkey": settings.sslkey and str(settings.sslkey),
        # With several hosts, the one that accepts writes is meant.
        "target_session_attrs": "read-write" if len(_listed(hosts)) > 1 else None,
    }
    return {
        name: value
        for name, value in wanted.items()
        if value is not None and name not in address.query
    }


def _listed(hosts: str | tuple[str, ...]) -> list[str]:
    return hosts.split(",") if isinstance(hosts, str) else list(hosts)


def _to_json(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError as error:
        # It names the type that JSON has no form for, never the value.
        raise ValidationError(f"a value cannot be stored as JSON: {error}") from error


def _judge(context: ExceptionContext) -> None:
    """Tell SQLAlchemy which errors mean that the pool leads to the wrong server."""
    error = context.original_exception
    if (refusal := unsendable(error)) is not None:
        # Not an error of the driver, so the unit of work would pass it on untranslated.
        raise refusal from error
    hide_values(error)
    if context.sqlalchemy_exception is not None:
        hide_values(context.sqlalchemy_exception)
    state = getattr(error, "sqlstate", None)
    if state not in DISCONNECT_STATES:
        return
    connection = context.connection
    promised = connection is not None and connection.get_execution_options().get(READ_ONLY_OPTION)
    # A write in a unit that promised none is the caller's mistake, not a demoted primary.
    context.is_disconnect = not (promised and state == "25006")


def _remember_process(_driver: object, entry: ConnectionPoolEntry) -> None:
    entry.info["process"] = os.getpid()


def _lay_to_rest(driver: Any, entry: ConnectionPoolEntry) -> None:
    entry.info["resting_since"] = time.monotonic()
    # None: the connection was lost. A unit that read without transactions ends here.
    if driver is not None and driver.autocommit:
        driver.autocommit = False


def _test_after_rest(driver: Any, entry: ConnectionPoolEntry, proxy: PoolProxiedConnection) -> None:
    if entry.info["process"] != os.getpid():
        # A fork copied the pool. The socket is the parent's: neither used nor closed here.
        _INHERITED.append(driver)
        entry.dbapi_connection = proxy.dbapi_connection = None  # type: ignore[misc] # SQLAlchemy documents this
        raise DisconnectionError("the connection belongs to another process")
    resting_since = entry.info.get("resting_since")
    if resting_since is None or time.monotonic() - resting_since < _PING_AFTER_IDLE:
        return
    try:
        driver.autocommit = True
        driver.execute("")
        driver.autocommit = False
    except psycopg.Error as error:
        raise InvalidatePoolError("the connection did not survive its rest") from error
