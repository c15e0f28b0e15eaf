"""What is sent to PostgreSQL at connect."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from rootstream_db.database.engine import connect_arguments, local_limits, sqlalchemy_url
from rootstream_db.settings import DatabaseSettings


def arguments(url: str = "postgresql://db/x", **settings):
    return connect_arguments(sqlalchemy_url(SecretStr(url)), DatabaseSettings(**settings))


def parameters(url: str) -> dict[str, object]:
    """What psycopg is called with for a URL alone."""
    address = sqlalchemy_url(SecretStr(url))
    return dict(address.get_dialect()().create_connect_args(address)[1])


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_scheme_means_psycopg_3(scheme: str):
    url = sqlalchemy_url(SecretStr(f"{scheme}://alice:p%40w@db:5433/x?sslmode=require"))
    assert "postgresql+psycopg" == url.drivername
    assert ("alice", "p@w", "db", 5433, "x") == (
        url.username,
        url.password,
        url.host,
        url.port,
        url.database,
    )
    assert {"sslmode": "require"} == dict(url.query)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://al:pw@h1:1,h2:2/x?connect_timeout=2",
        "postgresql://al:pw@/x?host=h1:1&host=h2:2&connect_timeout=2",
    ],
)
def test_several_hosts_are_accepted_in_libpqs_form_and_in_sqlalchemys(url: str):
    found = parameters(url)
    assert ("h1,h2", "1,2", "x", "al") == (
        found["host"],
        found["port"],
        found["dbname"],
        found["user"],
    )


def test_a_url_without_a_database_is_accepted():
    assert "db" == parameters("postgresql://db")["host"]
    assert "h1,h2" == parameters("postgresql://h1,h2")["host"]


def test_limits_travel_as_startup_options():
    options = arguments(statement_timeout=1.5, lock_timeout=2, idle_in_transaction_timeout=0)[
        "options"
    ]
    assert "-c statement_timeout=1500" in options
    assert "-c lock_timeout=2000" in options
    assert "-c idle_in_transaction_session_timeout=0" in options


def test_options_of_the_url_come_last_and_win():
    options = arguments("postgresql://db/x?options=-c%20statement_timeout%3D5")["options"]
    assert options.endswith("-c statement_timeout=5")
    repeated = arguments("postgresql://db/x?options=-c%20a%3D1&options=-c%20b%3D2")["options"]
    assert repeated.endswith("-c a=1 -c b=2")


def test_parameters_of_the_url_win_over_settings():
    found = arguments(
        "postgresql://db/x?connect_timeout=9&sslmode=require", connect_timeout=3, sslmode="disable"
    )
    assert "connect_timeout" not in found
    assert "sslmode" not in found


def test_keepalives_name_and_tls_are_sent():
    found = arguments(
        keepalives_idle=7,
        keepalives_interval=5,
        keepalives_count=2,
        application_name="demo",
        connect_timeout=4,
        sslmode="verify-full",
        sslrootcert="/ca.crt",
        sslcert="/client.crt",
        sslkey="/client.key",
    )
    expected = {
        "keepalives_idle": 7,
        "keepalives_interval": 5,
        "keepalives_count": 2,
        "tcp_user_timeout": 17_000,
        "application_name": "demo",
        "connect_timeout": 4,
        "sslmode": "verify-full",
        "sslrootcert": "/ca.crt",
        "sslcert": "/client.crt",
        "sslkey": "/client.key",
    }
    assert expected == {name: found[name] for name in expected}


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("postgresql://h1,h2/x", "read-write"),
        ("postgresql:///x?host=h1&host=h2", "read-write"),
        ("postgresql:///x?host=h1,h2", "read-write"),
        ("postgresql://h1,h2/x?target_session_attrs=any", None),
        ("postgresql://h1/x", None),
    ],
)
def test_of_several_hosts_the_one_that_accepts_writes_is_meant(url: str, wanted: str | None):
    assert wanted == arguments(url).get("target_session_attrs")


def test_behind_pgbouncer_nothing_is_prepared_and_no_options_are_sent():
    found = arguments(pooler="pgbouncer")
    assert found["prepare_threshold"] is None
    assert "options" not in found
    assert "prepare_threshold" not in arguments()


def test_behind_pgbouncer_limits_are_set_in_each_transaction():
    limits = local_limits(DatabaseSettings(lock_timeout=2))
    assert "set_config('lock_timeout', '2000', true)" in limits
