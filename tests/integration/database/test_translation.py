"""Errors of PostgreSQL become ours by SQLSTATE, and none of them tells a secret."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import sqlalchemy
from pydantic import SecretStr
from sqlalchemy import JSON, bindparam, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from rootstream_db.database import Database
from rootstream_db.database.translation import is_connection_failure, translate
from rootstream_db.embedded import EmbeddedPostgres
from rootstream_db.errors import (
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
from rootstream_db.settings.urls import POSTGRES_SCHEMES, parse_url

SERVER = parse_url("postgresql://alice:s3cret@db.example.com:5433/shop", schemes=POSTGRES_SCHEMES)


def raising(state: str, message: str = "said so", **options: str) -> str:
    """SQL that fails with any SQLSTATE."""
    extra = "".join(f", {name} = '{value}'" for name, value in options.items())
    return f"DO $$ BEGIN RAISE EXCEPTION '{message}' USING ERRCODE = '{state}'{extra}; END $$"


def failure(db: Database, statement: str, **parameters: Any) -> RootStreamError:
    with pytest.raises(RootStreamError) as caught, db.transaction() as work:
        work.session.execute(text("INSERT INTO item (id, name) VALUES (1, 'taken')"))
        if parameters:
            work.session.execute(text(statement), parameters)
        else:
            work.session.connection().exec_driver_sql(statement)
    assert isinstance(caught.value.__cause__, sqlalchemy.exc.DBAPIError)
    return caught.value


CASES: list[tuple[str, str, type[RootStreamError], str]] = [
    ("unique", "INSERT INTO item (id, name) VALUES (2, 'taken')", ConflictError, "uq_item_name"),
    ("foreign key", "UPDATE item SET parent = 99", ConflictError, "fk_item_parent"),
    ("exclusion", raising("23P01"), ConflictError, "overlaps"),
    ("restrict", raising("23001"), ConflictError, "still referred to"),
    ("check", "UPDATE item SET amount = -1", ValidationError, "ck_item_amount"),
    ("not null", "UPDATE item SET name = NULL", ValidationError, "name: a value is required"),
    ("too long", "UPDATE item SET name = repeat('x', 11)", ValidationError, "longer"),
    ("out of range", "UPDATE item SET amount = 9999999999", ValidationError, "out of range"),
    ("bad form", "SELECT 'x1'::integer", ValidationError, "form of its type"),
    ("nul in json", "SELECT '\"\\u0000\"'::jsonb ->> 0", ValidationError, "NUL"),
    ("other data", "SELECT date '2026-02-30'", ValidationError, "not one the database accepts"),
    ("serialization", raising("40001"), TransientStorageError, "concurrent change"),
    ("deadlock", raising("40P01"), TransientStorageError, "deadlock"),
    ("cancelled", raising("57014"), StorageTimeoutError, "time limit"),
    ("lock", raising("55P03"), StorageTimeoutError, "lock was not granted"),
    ("transaction limit", raising("25P04"), StorageTimeoutError, "transaction ran into"),
    ("connection", raising("08006"), DatabaseUnavailableError, "cannot be reached"),
    ("shutdown", raising("57P01"), DatabaseUnavailableError, "cannot be reached"),
    ("connections", raising("53300"), DatabaseUnavailableError, "no connection left"),
    ("disk", raising("53100", "disk full"), DatabaseUnavailableError, "resource: disk full"),
    ("read-only", raising("25006"), ReadOnlyDatabaseError, "accepts no writes"),
    ("privilege", raising("42501"), ConfigurationError, "lacks a privilege"),
    ("no table", "SELECT * FROM nothing", SchemaError, "rootstream-db db upgrade"),
    ("no column", "SELECT nothing FROM item", SchemaError, "rootstream-db db upgrade"),
    ("no function", "SELECT nothing()", SchemaError, "rootstream-db db upgrade"),
    ("no schema", "CREATE TABLE nothing.x (id int)", SchemaError, "rootstream-db db upgrade"),
    ("reused event", raising("RS002", "event was stored"), ConflictError, "event was stored"),
    ("other feature", raising("0A000"), StorageError, "said so"),
    ("anything else", raising("P0001"), StorageError, "refused a statement: said so"),
]


@pytest.mark.parametrize(
    ("statement", "kind", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_each_state_has_its_error(db: Database, statement: str, kind: type, words: str):
    error = failure(db, statement)
    assert kind is type(error)
    assert words in str(error)
    if not isinstance(error, SchemaError):
        assert error.context["sqlstate"]
        assert "postgres" == error.context["user"]


def test_facts_about_the_failure_are_attributes(db: Database):
    conflict = failure(db, "INSERT INTO item (id, name) VALUES (2, 'taken')")
    assert isinstance(conflict, ConflictError)
    assert ("uq_item_name", "item") == (conflict.constraint, conflict.context["table"])
    missing = failure(db, "UPDATE item SET name = NULL")
    assert isinstance(missing, ValidationError)
    assert "name" == missing.field


def test_a_version_conflict_carries_what_the_function_said(db: Database):
    detail = '{"aggregate": "Stream 7", "expected": 3, "actual": 5}'
    error = failure(db, raising("RS001", "version", DETAIL=detail))
    assert isinstance(error, VersionConflictError)
    assert ("Stream 7", 3, 5) == (error.aggregate, error.expected, error.actual)


@pytest.mark.parametrize("value", ["a\x00b", "a\ud800b"])
def test_text_that_cannot_be_sent_is_a_validation_error(db: Database, value: str):
    with (
        pytest.raises(ValidationError, match="NUL or invalid characters"),
        db.transaction() as work,
    ):
        work.session.execute(text("UPDATE item SET name = :name"), {"name": value})


class Base(DeclarativeBase):
    type_annotation_map = {dict[str, Any]: JSON}  # noqa: RUF012 - SQLAlchemy's form


class Document(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    data: Mapped[dict[str, Any]]


@pytest.mark.parametrize("value", [{"x": object()}, {"x": "\ud800"}, {"x": 2**70}])
def test_a_value_that_is_not_json_is_a_validation_error(db: Database, value: dict[str, Any]):
    with pytest.raises(ValidationError, match="cannot be stored as JSON"), db.transaction() as work:
        work.session.add(Document(id=1, name="a", data=value))


def test_a_row_that_vanished_is_a_conflict(db: Database):
    with db.transaction() as work:
        document = Document(id=1, name="a", data={})
        work.session.add(document)
    with pytest.raises(ConflictError, match="changed or deleted"), db.transaction() as work:
        work.session.add(document)
        document.name = "b"
        with work.session.no_autoflush:
            work.session.execute(text("DELETE FROM item"))


def test_a_changed_schema_under_a_prepared_statement_is_passing(db: Database, plain_url: str):
    with psycopg.connect(plain_url, autocommit=True) as other:
        other.execute("DROP TABLE IF EXISTS shifting")
        other.execute("CREATE TABLE shifting (a int)")

        def read(work: Any) -> Any:
            return work.session.execute(text("SELECT * FROM shifting")).all()

        def use(times: int) -> None:
            with db.transaction() as work:
                for _ in range(times):
                    read(work)

        use(10)
        other.execute("ALTER TABLE shifting ADD b int")
        with pytest.raises(TransientStorageError, match="schema changed"):
            use(1)
        assert [] == db.run(read)


def test_errors_that_are_nobodys_but_the_programmers_pass_unchanged(db: Database):
    with pytest.raises(sqlalchemy.exc.NoResultFound), db.transaction() as work:
        work.session.execute(text("SELECT 1 WHERE false")).one()
    with (
        pytest.raises(sqlalchemy.exc.NoResultFound),
        db.transaction() as work,
        work.savepoint(),
    ):
        work.session.execute(text("SELECT 1 WHERE false")).one()
    with pytest.raises(ValueError, match="plain"), db.transaction():
        raise ValueError("plain")


def test_misuse_of_the_driver_is_a_storage_error(db: Database):
    with pytest.raises(StorageError), db.direct() as connection:
        connection.execute("SELECT %s", [1, 2])
    with pytest.raises(StorageError), db.transaction() as work:
        work.session.execute(text("SELECT :x"), {"x": object()})


def test_a_pool_emptied_past_the_gate_is_explained(make: Callable[..., Database]):
    db = make(pool_size=1, pool_timeout=0.1)
    with (
        db.engine.connect(),
        pytest.raises(StorageTimeoutError, match=r"database\.pool_size"),
        db.transaction(),
    ):
        pass


class TestSecrets:
    def test_an_error_and_its_cause_quote_no_row(self, db: Database):
        secret = "hunter" + "2"
        with pytest.raises(RootStreamError) as caught, db.transaction() as work:
            work.session.execute(
                text("INSERT INTO item (id, name, amount) VALUES (1, :secret, -1)"),
                {"secret": secret},
            )
        shown = "".join(traceback.format_exception(caught.value))
        assert "ck_item_amount" in shown
        assert secret not in shown

    def test_the_same_holds_inside_the_block(self, db: Database):
        with (
            db.transaction() as work,
            pytest.raises(sqlalchemy.exc.IntegrityError) as caught,
            work.session.begin_nested(),
        ):
            work.session.execute(text("INSERT INTO item (id, name, amount) VALUES (1, 'a', -1)"))
        # DETAIL would have quoted the whole row.
        assert "Failing row" not in "".join(traceback.format_exception(caught.value))

    def test_the_same_holds_on_a_direct_connection(self, db: Database):
        secret = "hunter" + "2"
        with pytest.raises(RootStreamError) as caught, db.direct() as connection:
            connection.execute("INSERT INTO item VALUES (1, %s, -1)", [secret])
        assert secret not in "".join(traceback.format_exception(caught.value))


class TestConnecting:
    def test_a_wrong_password_is_a_configuration_error_that_hides_it(
        self, make: Callable[..., Database], tcp_server: EmbeddedPostgres
    ):
        scheme, _, rest = tcp_server.url().partition("postgres:")
        wrong = f"{scheme}postgres:hunter2@{rest.partition('@')[2]}"
        with pytest.raises(ConfigurationError) as caught:
            make(url=SecretStr(wrong)).ping()
        error = caught.value
        assert "the password was refused for user 'postgres' at 127.0.0.1:" in str(error)
        assert "database.url" == error.setting
        assert "hunter2" not in "".join(traceback.format_exception(error)) + repr(error.context)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ((":PORT/postgres", ":PORT/nothing"), "there is no database 'nothing' at 127.0.0.1"),
            (("postgres:", "nobody:"), "the password was refused for user 'nobody'"),
            (("127.0.0.1", "localhost.invalid"), "cannot be reached"),
        ],
    )
    def test_what_is_wrong_with_an_address_is_said(self, make, tcp_server, change, words):
        port = tcp_server.url().rpartition(":")[2].partition("/")[0]
        old, new = (text.replace("PORT", port) for text in change)
        db = make(url=SecretStr(tcp_server.url().replace(old, new)))
        with pytest.raises(RootStreamError, match=words):
            db.ping()

    def test_a_role_that_may_not_log_in_is_named(self, make, plain_url: str):
        with psycopg.connect(plain_url, autocommit=True) as connection:
            connection.execute("DROP ROLE IF EXISTS locked_out")
            connection.execute("CREATE ROLE locked_out NOLOGIN")
        for user in ("locked_out", "never_made"):
            url = SecretStr(plain_url.replace("postgres@", f"{user}@"))
            with pytest.raises(ConfigurationError, match=f"user '{user}' may not connect"):
                make(url=url).ping()

    def test_a_server_without_tls_is_refused_when_tls_is_wanted(self, make, tcp_server):
        db = make(url=SecretStr(tcp_server.url()), sslmode="require")
        with pytest.raises(ConfigurationError, match="no trusted TLS connection") as caught:
            db.ping()
        assert "database.sslmode" == caught.value.setting

    def test_too_many_connections_are_passing(self, make, plain_url: str):
        with psycopg.connect(plain_url, autocommit=True) as connection:
            connection.execute("DROP ROLE IF EXISTS narrow")
            connection.execute("CREATE ROLE narrow LOGIN CONNECTION LIMIT 0")
        db = make(url=SecretStr(plain_url.replace("postgres@", "narrow@")))
        with pytest.raises(DatabaseUnavailableError, match="no connection left"):
            db.ping()


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("FATAL:  the database system is starting up", DatabaseUnavailableError),
        ("FATAL:  the database system is shutting down", DatabaseUnavailableError),
        ("session is read-only", ReadOnlyDatabaseError),
        ("FATAL: sorry, too many clients already", DatabaseUnavailableError),
        ('server certificate for "a" does not match host name "b"', ConfigurationError),
        ("FATAL: le système de base de données démarre", DatabaseUnavailableError),
    ],
)
def test_refusals_without_a_state_are_told_apart_by_their_words(message: str, kind: type):
    error = translate(psycopg.OperationalError(f"connection failed: {message}"), server=SERVER)
    assert kind is type(error)
    assert "s3cret" not in str(error)


def test_an_error_of_another_kind_is_returned_as_it_is():
    error = KeyError("x")
    assert error is translate(error, server=SERVER)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DatabaseUnavailableError("x"), True),
        (DatabaseUnavailableError("x", sqlstate="57P01"), True),
        (DatabaseUnavailableError("x", sqlstate="53300"), True),
        (DatabaseUnavailableError("x", sqlstate="53100"), False),
        (ReadOnlyDatabaseError("x"), False),
        (CircuitOpenError("x", retry_after=1), False),
        (StorageTimeoutError("x"), False),
        (ValueError("x"), False),
    ],
)
def test_only_lost_or_refused_connections_count_for_the_circuit(error, *, expected: bool):
    assert expected == is_connection_failure(error)


def test_json_bound_to_a_statement_is_written_by_orjson(db: Database):
    statement = text("SELECT CAST(:data AS jsonb) ->> 'ü'").bindparams(
        bindparam("data", type_=JSON)
    )
    with db.read() as work:
        assert "ß" == work.session.execute(statement, {"data": {"ü": "ß"}}).scalar_one()
