"""The schema's versions: where the migrations are, and how they are applied safely.

A migration runs on one direct connection (never through a pooler), one transaction a revision,
under an advisory lock that makes concurrent upgraders wait for each other, and with a lock
time-out so that a migration that cannot get its table lock fails instead of blocking everybody
who queues behind it.
"""

from __future__ import annotations

import io
import re
import threading
import time
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import psycopg
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from pydantic import SecretStr
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from rootstream_db.database.engine import connect_direct
from rootstream_db.database.translation import translate
from rootstream_db.errors import ConfigurationError, SchemaError, StorageTimeoutError
from rootstream_db.models import Base
from rootstream_db.settings import DatabaseSettings, Settings
from rootstream_db.settings.urls import POSTGRES_SCHEMES, parse_url

if TYPE_CHECKING:
    from collections.abc import Iterator

Target: TypeAlias = DatabaseSettings | str
"""A database to migrate: its settings, or just a URL."""

MIGRATION_LOCK: Final = 0x526F6F74  # "Root": the key of the advisory lock upgraders share
LOCK_TIMEOUT_MS: Final = 5_000
"""How long a migration may wait for a table lock before it gives way, in milliseconds."""
UPGRADER_WAIT: Final = 600.0
"""How long an upgrader waits for another one to finish, in seconds."""

# Alembic hands its context to env.py through a global of the process.
_ONE_AT_A_TIME: Final = threading.Lock()
_PARTITION: Final = re.compile(
    r"^(viewer_sessions|usage_logs|mfa_attempts|security_events)_(default|p\d{6,8})$"
)


def config() -> Config:
    """Return the Alembic configuration of this checkout or of the installed wheel."""
    package = Path(__file__).parent
    checkout = package.parent / "alembic.ini"
    if checkout.exists() and (package.parent / "alembic" / "env.py").exists():
        return Config(checkout)
    installed = Config()
    installed.set_main_option("script_location", str(package / "_migrations").replace("%", "%%"))
    installed.set_main_option("path_separator", "os")
    return installed


def head() -> str:
    """Return the revision this release needs."""
    revision = ScriptDirectory.from_config(config()).get_current_head()
    if revision is None:  # pragma: no cover - the package always ships revisions
        raise SchemaError("this installation has no migrations", current=None, head=None)
    return revision


def current(database: Target) -> str | None:
    """Return the revision the database is at, or None when it was never migrated.

    Raises:
        DatabaseUnavailableError: the server cannot be reached.
        ConfigurationError: no database is configured, or the server refuses the user.
    """
    with _connection(database) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def upgrade(database: Target, revision: str = "head") -> str | None:
    """Bring the database to ``revision`` and return the revision reached.

    Safe to call from many processes at once: one migrates, the others wait and find nothing to do.

    Raises:
        DatabaseUnavailableError: the server cannot be reached.
        StorageTimeoutError: another upgrader did not finish, or a table stayed locked.
        SchemaError: the database is at a revision this release does not know.
    """
    _require_known(current(database))
    with _connection(database) as connection:
        settings = config()
        settings.attributes["connection"] = connection
        with _ONE_AT_A_TIME:
            command.upgrade(settings, revision)
    return current(database)


def downgrade(database: Target, revision: str) -> str | None:
    """Take the database back to ``revision`` (``base`` drops everything) and return it."""
    with _connection(database) as connection:
        settings = config()
        settings.attributes["connection"] = connection
        with _ONE_AT_A_TIME:
            command.downgrade(settings, revision)
    return current(database)


def offline_sql(revision: str = "head") -> str:
    """Return the SQL that an upgrade from nothing to ``revision`` would run."""
    buffer = io.StringIO()
    settings = config()
    settings.output_buffer = buffer
    with _ONE_AT_A_TIME, redirect_stdout(buffer):
        command.upgrade(settings, revision, sql=True)
    return buffer.getvalue()


def check(database: Target) -> str:
    """Return the database's revision if it is exactly the one this release needs.

    Raises:
        SchemaError: the schema is missing, behind, or ahead of this release.
    """
    found, wanted = current(database), head()
    if found is None:
        message = "the database has no schema yet: run `rootstream-db db upgrade`"
        raise SchemaError(message, current=None, head=wanted)
    _require_known(found)
    if found != wanted:
        message = f"the schema is at {found}, behind {wanted}: run `rootstream-db db upgrade`"
        raise SchemaError(message, current=found, head=wanted)
    return found


def _require_known(found: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(config()).walk_revisions()}
    if found is not None and found not in known:
        message = (
            f"the schema is at {found}, which this release does not know: it was migrated by a "
            "newer release; upgrade rootstream-db on this machine"
        )
        raise SchemaError(message, current=found, head=head())


@contextmanager
def _connection(database: Target) -> Iterator[Connection]:
    settings = DatabaseSettings(url=SecretStr(database)) if isinstance(database, str) else database
    engine = create_engine(
        "postgresql+psycopg://", poolclass=NullPool, creator=lambda: _driver_connection(settings)
    )
    try:
        with _translating(settings), engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


@contextmanager
def _translating(settings: DatabaseSettings) -> Iterator[None]:
    url = settings.direct_url or settings.url
    if url is None:
        message = "no database is configured: set ROOTSTREAM_DATABASE_URL"
        raise ConfigurationError(message, setting="database.url")
    try:
        yield
    except (SQLAlchemyError, psycopg.Error) as error:
        server = parse_url(url.get_secret_value(), schemes=POSTGRES_SCHEMES)
        raise translate(error, server=server) from error


def _driver_connection(settings: DatabaseSettings) -> psycopg.Connection[Any]:
    connection = connect_direct(settings)
    connection.autocommit = False
    return connection


# ---- what alembic/env.py runs


def run_offline(context: Any) -> None:
    """Write the migrations as SQL instead of running them."""
    context.configure(dialect_name="postgresql", literal_binds=True, **_options())
    with context.begin_transaction():
        context.run_migrations()


def run_online(context: Any) -> None:
    """Run the migrations on the caller's connection, or on one made from the settings."""
    given = context.config.attributes.get("connection")
    if given is not None:
        _migrate(context, given)
        return
    with _connection(Settings.load().database) as connection:
        _migrate(context, connection)


def _migrate(context: Any, connection: Connection) -> None:
    context.configure(connection=connection, transaction_per_migration=True, **_options())
    with _sole_upgrader(connection), context.begin_transaction():
        context.run_migrations()


@contextmanager
def _sole_upgrader(connection: Connection) -> Iterator[None]:
    """Hold the upgraders' advisory lock; it goes with the connection if we die."""
    key = {"key": MIGRATION_LOCK}
    deadline = time.monotonic() + UPGRADER_WAIT
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), key):
        if time.monotonic() > deadline:
            raise StorageTimeoutError("another upgrader held the migration lock for too long")
        time.sleep(0.1)
    connection.execute(text(f"SET lock_timeout = {LOCK_TIMEOUT_MS}"))
    connection.commit()
    try:
        yield
    finally:
        if not connection.invalidated:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), key)
            connection.commit()


def _options() -> dict[str, Any]:
    return {
        "target_metadata": Base.metadata,
        "include_name": is_compared,
        "compare_server_default": True,
    }


def is_compared(name: str | None, kind: str, _parents: Any) -> bool:
    """Return whether Alembic compares an object; partitions come and go with time, not releases."""
    return not (kind == "table" and name is not None and _PARTITION.match(name))
