"""The table of doubts that ``config check`` goes through."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from pydantic import SecretStr

from rootstream_db.errors import Severity
from rootstream_db.settings.key_rules import KEY_RULES
from rootstream_db.settings.models import DatabaseSettings, Settings
from rootstream_db.settings.rule import Rule
from rootstream_db.settings.urls import POSTGRES_SCHEMES, REDIS_SCHEMES, ServerUrl, parse_url

_MANY_CONNECTIONS: Final = 50
_PGBOUNCER_PORT: Final = 6432
_VERIFIED: Final = "verify-full"
_ENCRYPTED: Final = ("require", "verify-ca", _VERIFIED)
_SHORT_LEASE: Final = timedelta(seconds=5)
# NIST SP 800-63B-4, 3.1.1.2: where a password is the only factor.
_SINGLE_FACTOR_LENGTH: Final = 15
_OTHERS: Final = 0o077
_SECRETS: Final = (
    "database.url",
    "database.direct_url",
    "database.replica_urls",
    "redis.url",
    "ingest.hook_token",
    "security.token_peppers",
    "security.master_keys",
)


def _postgres(url: SecretStr) -> ServerUrl:
    return parse_url(url.get_secret_value(), schemes=POSTGRES_SCHEMES)


def _servers(database: DatabaseSettings) -> Iterator[ServerUrl]:
    urls = (database.url, database.direct_url, *database.replica_urls)
    yield from (_postgres(url) for url in urls if url is not None)


def _redis(settings: Settings) -> ServerUrl | None:
    url = settings.redis.url
    return None if url is None else parse_url(url.get_secret_value(), schemes=REDIS_SCHEMES)


def _modes(settings: Settings) -> Iterator[tuple[ServerUrl, str]]:
    """Yield each remote PostgreSQL with the TLS mode it is spoken to in."""
    for server in _servers(settings.database):
        if not server.is_local:
            yield server, server.query.get("sslmode") or settings.database.sslmode or "prefer"


def _password_in_clear(settings: Settings) -> bool:
    return any(server.password and mode not in _ENCRYPTED for server, mode in _modes(settings))


def _unverified(settings: Settings) -> bool:
    return any(mode != _VERIFIED for _, mode in _modes(settings))


def _no_authority(settings: Settings) -> bool:
    return settings.database.sslrootcert is None and any(
        mode == _VERIFIED and "sslrootcert" not in server.query for server, mode in _modes(settings)
    )


def _half_a_client_certificate(settings: Settings) -> bool:
    return (settings.database.sslcert is None) != (settings.database.sslkey is None)


_IN_CLEAR = ("redis", "redis+sentinel")


def _redis_in_clear(settings: Settings) -> bool:
    server = _redis(settings)
    return server is not None and not server.is_local and server.scheme in _IN_CLEAR


def _redis_open(settings: Settings) -> bool:
    server = _redis(settings)
    return server is not None and not server.is_local and server.password is None


def _readable_secrets(settings: Settings) -> bool:
    path = settings.config_file
    if path is None or not path.stat().st_mode & _OTHERS:
        return False
    return any(settings.sources[name] == str(path) for name in _SECRETS)


def _looks_like_pgbouncer(settings: Settings) -> bool:
    url = settings.database.url
    return (
        settings.database.pooler == "none"
        and url is not None
        and any(host.port == _PGBOUNCER_PORT for host in _postgres(url).hosts)
    )


def _replica_is_primary(settings: Settings) -> bool:
    url = settings.database.url
    return url is not None and any(
        _postgres(replica).hosts == _postgres(url).hosts
        for replica in settings.database.replica_urls
    )


def _no_limits(settings: Settings) -> bool:
    database = settings.database
    limits = (
        database.statement_timeout,
        database.lock_timeout,
        database.idle_in_transaction_timeout,
    )
    return 0 in limits


RULES: Final = (
    Rule(
        id="no-servers",
        severity=Severity.HIGH,
        category="schema",
        setting="database.url",
        applies=lambda s: s.embedded.path is None and None in (s.database.url, s.redis.url),
        message="nothing says where PostgreSQL and Redis are",
        advice="Set ROOTSTREAM_DATABASE_URL, ROOTSTREAM_REDIS_URL, or ROOTSTREAM_EMBEDDED__PATH.",
    ),
    Rule(
        id="embedded-ignored",
        severity=Severity.MEDIUM,
        category="schema",
        setting="embedded.path",
        applies=lambda s: s.embedded.path is not None and s.database.url is not None,
        message="both a database URL and a folder for embedded servers are set; the URL wins",
        advice="Remove one of the two.",
    ),
    Rule(
        id="embedded-servers",
        severity=Severity.LOW,
        category="schema",
        setting="embedded.path",
        applies=lambda s: s.embedded.path is not None and s.database.url is None,
        message="embedded servers are for demos, tests, laptops and single-box installs",
        advice="In production set ROOTSTREAM_DATABASE_URL and ROOTSTREAM_REDIS_URL.",
    ),
    Rule(
        id="pooler-without-direct-url",
        severity=Severity.HIGH,
        category="schema",
        setting="database.direct_url",
        applies=lambda s: s.database.pooler == "pgbouncer" and s.database.direct_url is None,
        message="locks, LISTEN and migrations go through PgBouncer, where they do not work",
        advice="Set database.direct_url to PostgreSQL itself.",
    ),
    Rule(
        id="pooler-not-declared",
        severity=Severity.HIGH,
        category="schema",
        setting="database.pooler",
        applies=_looks_like_pgbouncer,
        message="port 6432 is PgBouncer's, but prepared statements are on: commits will fail",
        advice="Set database.pooler to pgbouncer.",
    ),
    Rule(
        id="replica-is-primary",
        severity=Severity.MEDIUM,
        category="schema",
        setting="database.replica_urls",
        applies=_replica_is_primary,
        message="a replica URL names the same host and port as the primary",
        advice="Remove it: it takes connections away and spreads no load.",
    ),
    Rule(
        id="half-a-client-certificate",
        severity=Severity.HIGH,
        category="schema",
        setting="database.sslcert",
        applies=_half_a_client_certificate,
        message="a client certificate needs its key, and a key its certificate",
        advice="Set both database.sslcert and database.sslkey.",
    ),
    Rule(
        id="lease-outlives-grace",
        severity=Severity.MEDIUM,
        category="schema",
        setting="streams.lease_ttl",
        applies=lambda s: s.streams.lease_ttl >= s.streams.reconnect_grace,
        message="the grace to reconnect is over when the lease is: every hiccup ends a session",
        advice="Make streams.reconnect_grace longer than streams.lease_ttl.",
    ),
    Rule(
        id="lease-too-short",
        severity=Severity.MEDIUM,
        category="schema",
        setting="streams.lease_ttl",
        applies=lambda s: s.streams.lease_ttl < _SHORT_LEASE,
        message="one late heartbeat ends a live stream",
        advice="Make streams.lease_ttl at least three heartbeats long, 5 s or more.",
    ),
    Rule(
        id="lockout-backwards",
        severity=Severity.MEDIUM,
        category="schema",
        setting="accounts.lockout_base",
        applies=lambda s: s.accounts.lockout_base > s.accounts.lockout_max,
        message="the first lockout is longer than the longest",
        advice="Make accounts.lockout_base shorter than accounts.lockout_max.",
    ),
    Rule(
        id="password-in-clear",
        severity=Severity.CRITICAL,
        category="security",
        setting="database.sslmode",
        applies=_password_in_clear,
        message="a password for PostgreSQL may cross the network unencrypted",
        advice="Set database.sslmode to verify-full and database.sslrootcert to the authority.",
    ),
    Rule(
        id="server-not-verified",
        severity=Severity.HIGH,
        category="security",
        setting="database.sslmode",
        applies=_unverified,
        message="nothing proves that a remote PostgreSQL is the one that is meant",
        advice="Set database.sslmode to verify-full.",
    ),
    Rule(
        id="no-authority",
        severity=Severity.MEDIUM,
        category="security",
        setting="database.sslrootcert",
        applies=_no_authority,
        message="verify-full looks for ~/.postgresql/root.crt, which may not be there",
        advice="Set database.sslrootcert to a file, or to system for the system's authorities.",
    ),
    Rule(
        id="redis-in-clear",
        severity=Severity.HIGH,
        category="security",
        setting="redis.url",
        applies=_redis_in_clear,
        message="traffic to a remote Redis is not encrypted",
        advice="Use a rediss:// URL.",
    ),
    Rule(
        id="redis-without-password",
        severity=Severity.HIGH,
        category="security",
        setting="redis.url",
        applies=_redis_open,
        message="a remote Redis is used without a password",
        advice="Set requirepass or an ACL user and put it into redis.url.",
    ),
    Rule(
        id="readable-secrets",
        severity=Severity.HIGH,
        category="security",
        setting="config_file",
        applies=_readable_secrets,
        message="the configuration file holds secrets and other users may read it",
        advice="chmod 600 the file, or move the secrets to ROOTSTREAM_*_FILE.",
    ),
    Rule(
        id="weak-password-hash",
        severity=Severity.CRITICAL,
        category="security",
        setting="accounts.argon2_profile",
        applies=lambda s: s.accounts.argon2_profile == "cheapest-for-tests",
        message="password hashes are made to be fast, which serves tests and attackers",
        advice="Use rfc9106-low-memory.",
    ),
    Rule(
        id="short-passwords",
        severity=Severity.LOW,
        category="security",
        setting="accounts.min_password_length",
        applies=lambda s: s.accounts.min_password_length < _SINGLE_FACTOR_LENGTH,
        message="NIST SP 800-63B-4 asks for 15 characters where a password is the only factor",
        advice="Set accounts.min_password_length to 15, or require a second factor.",
    ),
    Rule(
        id="hooks-without-token",
        severity=Severity.HIGH,
        category="security",
        setting="ingest.hook_token",
        applies=lambda s: (
            s.ingest.hook_token is None and s.ingest.host not in {"127.0.0.1", "::1", "localhost"}
        ),
        message="anybody who reaches the ingest server can start and end streams",
        advice="Set ingest.hook_token, or listen on 127.0.0.1.",
    ),
    Rule(
        id="large-pool",
        severity=Severity.MEDIUM,
        category="performance",
        setting="database.pool_size",
        applies=lambda s: s.database.pool_size > _MANY_CONNECTIONS,
        message="one process keeps more than 50 connections; more than its cores can use",
        advice="Use about 10 for each process, and PgBouncer in front of many processes.",
    ),
    Rule(
        id="no-time-limit",
        severity=Severity.MEDIUM,
        category="performance",
        setting="database.statement_timeout",
        applies=_no_limits,
        message="a statement, a lock wait or an idle transaction may last for ever",
        advice="Give statement_timeout, lock_timeout and idle_in_transaction_timeout a value.",
    ),
    Rule(
        id="lock-limit-without-effect",
        severity=Severity.LOW,
        category="performance",
        setting="database.lock_timeout",
        applies=lambda s: 0 < s.database.statement_timeout <= s.database.lock_timeout,
        message="the statement limit ends a lock wait before the lock limit does",
        advice="Make database.lock_timeout shorter than database.statement_timeout.",
    ),
    Rule(
        id="reads-without-limit",
        severity=Severity.LOW,
        category="performance",
        setting="database.pooler",
        applies=lambda s: s.database.pooler == "pgbouncer",
        message="behind PgBouncer reads outside transactions have no statement limit",
        advice="ALTER ROLE ... SET statement_timeout = '30s' on the server.",
    ),
    *KEY_RULES,
)
