"""The one place that turns errors of SQLAlchemy and psycopg into ours, by SQLSTATE."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from sqlalchemy import exc as sa
from sqlalchemy.orm.exc import StaleDataError

from rootstream_db.errors import (
    AppendOnlyError,
    CircuitOpenError,
    ConfigurationError,
    ConflictError,
    DatabaseUnavailableError,
    ReadOnlyDatabaseError,
    RootStreamError,
    SchemaError,
    StorageError,
    StorageTimeoutError,
    TransientStorageError,
    ValidationError,
    VersionConflictError,
)
from rootstream_db.settings.urls import ServerUrl

DISCONNECT_STATES: Final = frozenset({"25006", "57P01", "57P02", "57P03"})
"""States after which a connection, and all its neighbours in the pool, lead to the wrong server."""

# What libpq says when the server refuses a connection: it hands out no SQLSTATE then. A server
# with other lc_messages falls through to "cannot be reached", with the server's own words.
_REFUSED: Final = (
    (re.compile(r"unsupported startup parameter"), "POOLER"),
    (re.compile(r"certificate|server does not support SSL|tlsv\d\S* alert"), "TLS"),
    (re.compile(r"password authentication failed|no password supplied"), "28P01"),
    (
        re.compile(r"role \".*\" does not exist|no pg_hba\.conf entry|not permitted to log in"),
        "28000",
    ),
    (re.compile(r"database \".*\" does not exist"), "3D000"),
    (re.compile(r"too many (clients|connections)|remaining connection slots"), "53300"),
    (re.compile(r"the database system is (starting up|shutting down|in recovery)"), "57P03"),
    (re.compile(r"session is read-only|server is in hot standby"), "25006"),
)


@dataclass(frozen=True)
class _Failure:
    """What the rules below decide by."""

    error: Exception
    state: str
    message: str
    server: ServerUrl
    read_only: bool

    @property
    def diagnostic(self) -> Any:
        return getattr(self.error, "diag", None)

    def facts(self) -> dict[str, Any]:
        """Return the context every translated error carries."""
        host = self.server.hosts[0]
        names = ("constraint_name", "table_name", "column_name")
        values = {name: getattr(self.diagnostic, name, None) for name in names}
        return {
            "sqlstate": self.state or None,
            "host": host.name or "localhost",
            "port": host.port,
            "database": self.server.database,
            "user": self.server.user,
            **{name.removesuffix("_name"): value for name, value in values.items() if value},
        }


def translate(error: Exception, *, server: ServerUrl, read_only: bool = False) -> Exception:
    """Return our error for one of SQLAlchemy or psycopg; any other error is returned as it is.

    Args:
        error: what was caught; chain the result with ``raise translate(...) from error``.
        server: whom the error came from, for the message; its password is never shown.
        read_only: whether the unit was opened read-only, so that a refused write is the caller's
            mistake and not a failover.
    """
    if isinstance(error, sa.TimeoutError):
        return StorageTimeoutError(
            "no connection of the pool became free in time: raise database.pool_size or shorten "
            "the transactions"
        )
    if isinstance(error, sa.PendingRollbackError):
        return StorageError(
            "an earlier statement of this unit of work failed and the unit went on: put what may "
            "fail inside work.savepoint()"
        )
    if isinstance(error, StaleDataError):
        return ConflictError("the row was changed or deleted by somebody else meanwhile")
    original = getattr(error, "orig", None) or error
    if isinstance(original, psycopg.Error):
        hide_values(error)
        return _translate_driver(original, server, read_only=read_only)
    return error


def unsendable(error: BaseException) -> ValidationError | None:
    """Return our error for a value that could not even be written down for the server."""
    if isinstance(error, UnicodeEncodeError):
        return ValidationError(_INVALID["22021"])
    return None


def hide_values(error: BaseException) -> None:
    """Take the row's values out of an error's text; ``diag`` keeps them for who asks.

    DETAIL quotes whole rows ("Failing row contains ..."), password hashes included, and a traceback
    prints the cause of our error too.
    """
    original = getattr(error, "orig", None) or error
    primary = getattr(getattr(original, "diag", None), "message_primary", None)
    if isinstance(original, psycopg.Error) and primary:
        original.args = (primary,)
        if error is not original:
            name = type(original).__name__
            error.args = (f"({type(original).__module__}.{name}) {primary}",)


def is_connection_failure(error: BaseException) -> bool:
    """Tell whether the connection could not be made or was lost: what the circuit counts."""
    if not isinstance(error, DatabaseUnavailableError) or isinstance(
        error, ReadOnlyDatabaseError | CircuitOpenError
    ):
        return False
    state = error.context.get("sqlstate") or "08000"
    return str(state).startswith(("08", "57P")) or state == "53300"


def _translate_driver(
    error: psycopg.Error, server: ServerUrl, *, read_only: bool
) -> RootStreamError:
    message = error.diag.message_primary or str(error).strip()
    state = error.sqlstate or _state_from_text(message)
    failure = _Failure(error, state, message, server, read_only)
    rule = _RULES.get(state) or _RULES.get(state[:2]) or _other
    return rule(failure)


def _state_from_text(message: str) -> str:
    return next((state for pattern, state in _REFUSED if pattern.search(message)), "")


def _conflict(failure: _Failure) -> RootStreamError:
    facts = failure.facts()
    constraint = facts.pop("constraint", None)
    table = facts.get("table", "the table")
    what = {
        "23505": f"{table} already has a row with this value",
        "23503": f"{table} refers to a row that does not exist, or the row is still referred to",
        "23001": f"{table} is still referred to",
        "23P01": f"{table} already has a row that overlaps this one",
    }.get(failure.state, failure.message)
    return ConflictError(f"{what} (constraint {constraint})", constraint=constraint, **facts)


def _version_conflict(failure: _Failure) -> RootStreamError:
    detail: Mapping[str, Any] = json.loads(failure.diagnostic.message_detail)
    return VersionConflictError(
        detail["aggregate"], expected=detail["expected"], actual=detail["actual"]
    )


def _reused_event(failure: _Failure) -> RootStreamError:
    facts = failure.facts()
    return ConflictError(failure.message, constraint=facts.pop("constraint", None), **facts)


def _append_only(failure: _Failure) -> RootStreamError:
    return AppendOnlyError(failure.message, **failure.facts())


def _invalid(failure: _Failure) -> RootStreamError:
    facts = failure.facts()
    field = facts.get("column") or facts.get("constraint")
    what = _INVALID.get(failure.state, "a value is not one the database accepts")
    return ValidationError(f"{field}: {what}" if field else what, field=field, **facts)


def _client_side(failure: _Failure) -> RootStreamError:
    """Judge an error that psycopg raised without asking the server."""
    if isinstance(failure.error, psycopg.DataError):
        nul = "NUL" in failure.message
        what = _INVALID["22021"] if nul else "a value is not one the database accepts"
        return ValidationError(what, **failure.facts())
    if isinstance(failure.error, psycopg.OperationalError | psycopg.InterfaceError):
        return _unavailable(failure)
    return _other(failure)


def _transient(failure: _Failure) -> RootStreamError:
    what = "a deadlock" if failure.state == "40P01" else "a concurrent change"
    return TransientStorageError(
        f"{what} made PostgreSQL undo the transaction: run it again", **failure.facts()
    )


def _feature(failure: _Failure) -> RootStreamError:
    # "cached plan must not change result type": a migration ran beside us; planned anew, it works.
    if failure.diagnostic.source_function == "RevalidateCachedQuery":
        return TransientStorageError(
            "the schema changed under a prepared statement: run it again", **failure.facts()
        )
    return _other(failure)


def _timeout(failure: _Failure) -> RootStreamError:
    what = {
        "57014": "the statement ran into its time limit or was cancelled",
        "55P03": "a lock was not granted in time: somebody else holds it",
        "25P03": "the unit of work paused too long and the server ended it",
    }.get(failure.state, "the transaction ran into its time limit")
    return StorageTimeoutError(what, **failure.facts())


def _unavailable(failure: _Failure) -> RootStreamError:
    what = "has no connection left" if failure.state == "53300" else "cannot be reached"
    return DatabaseUnavailableError(
        f"PostgreSQL at {failure.server.masked()} {what}: {_one_line(failure.message)}",
        **failure.facts(),
    )


def _exhausted(failure: _Failure) -> RootStreamError:
    return DatabaseUnavailableError(
        f"PostgreSQL at {failure.server.masked()} ran out of a resource: {failure.message}",
        **failure.facts(),
    )


def _read_only(failure: _Failure) -> RootStreamError:
    if failure.read_only:
        return StorageError(
            "this unit of work is read-only: open transaction() to write", **failure.facts()
        )
    return ReadOnlyDatabaseError(
        f"PostgreSQL at {failure.server.masked()} accepts no writes: it is a standby, or a "
        "failover is under way",
        **failure.facts(),
    )


def _refused(failure: _Failure) -> RootStreamError:
    server = failure.server
    place = ", ".join(str(host) for host in server.hosts)
    what = {
        "28P01": f"the password was refused for user {server.user!r} at {place}",
        "28000": f"user {server.user!r} may not connect at {place}: {_one_line(failure.message)}",
        "3D000": f"there is no database {server.database!r} at {place}: create it, or name another",
        "POOLER": f"{place} is PgBouncer: set database.pooler to pgbouncer",
        "TLS": f"no trusted TLS connection to {place}: {_one_line(failure.message)}",
        "42501": f"user {server.user!r} lacks a privilege: {failure.message}",
    }.get(failure.state, failure.message)
    settings = {"TLS": "database.sslmode", "POOLER": "database.pooler"}
    setting = settings.get(failure.state, "database.url")
    return ConfigurationError(what, setting=setting, **failure.facts())


def _schema(failure: _Failure) -> RootStreamError:
    return SchemaError(
        f"the schema of {failure.server.database!r} is missing or not the one this release needs "
        f"({failure.message}): run `rootstream-db db upgrade`",
        current=None,
        head=None,
    )


def _aborted(failure: _Failure) -> RootStreamError:
    return StorageError(
        "an earlier statement of this unit of work failed and the unit went on: put what may fail "
        "inside work.savepoint()",
        **failure.facts(),
    )


def _other(failure: _Failure) -> RootStreamError:
    return StorageError(
        f"PostgreSQL refused a statement: {_one_line(failure.message)}", **failure.facts()
    )


def _one_line(message: str) -> str:
    return " ".join(message.split())


_INVALID: Final = {
    "22001": "the text is longer than the column allows",
    "22003": "the number is out of range",
    "22021": "text may not contain NUL or invalid characters",
    "22P02": "the value does not have the form of its type",
    "22P05": "text may not contain NUL or invalid characters",
    "23502": "a value is required",
    "23514": "the value breaks a rule of the table",
}

# Looked up by the whole SQLSTATE first, then by its class, its first two characters.
_RULES: Final[Mapping[str, Callable[[_Failure], RootStreamError]]] = {
    "": _client_side,
    "08": _unavailable,
    "0A000": _feature,
    "22": _invalid,
    "22012": _other,
    "23502": _invalid,
    "23514": _invalid,
    "23": _conflict,
    "25006": _read_only,
    "25P02": _aborted,
    "25P03": _timeout,
    "25P04": _timeout,
    "28": _refused,
    "3D000": _refused,
    "3F000": _schema,
    "40001": _transient,
    "40P01": _transient,
    "42501": _refused,
    "42P01": _schema,
    "42703": _schema,
    "42883": _schema,
    "53300": _unavailable,
    "53": _exhausted,
    "55P03": _timeout,
    "57014": _timeout,
    "57P": _unavailable,
    "57": _unavailable,
    "POOLER": _refused,
    "TLS": _refused,
    "RS001": _version_conflict,
    "RS002": _reused_event,
    "RS003": _append_only,
}
