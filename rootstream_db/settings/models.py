"""Every setting of the package with its type, its default and its limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, SecretStr, field_validator

from rootstream_db.errors import ConfigurationError
from rootstream_db.settings import sources
from rootstream_db.settings.access import AccessSettings
from rootstream_db.settings.detection import DetectionSettings
from rootstream_db.settings.events import EventSettings
from rootstream_db.settings.mfa import MfaSettings
from rootstream_db.settings.section import Duration, Seconds, Section
from rootstream_db.settings.security import SecuritySettings
from rootstream_db.settings.sessions import SessionSettings
from rootstream_db.settings.urls import POSTGRES_SCHEMES, REDIS_SCHEMES, parse_url
from rootstream_db.settings.webhooks import WebhookSettings


def _check_postgres(value: SecretStr) -> SecretStr:
    parse_url(value.get_secret_value(), schemes=POSTGRES_SCHEMES)
    return value


def _check_redis(value: SecretStr) -> SecretStr:
    parse_url(value.get_secret_value(), schemes=REDIS_SCHEMES)
    return value


def _split_urls(value: object) -> object:
    """Take a list in one string apart; a comma inside a URL separates hosts, not URLs."""
    return _BETWEEN_URLS.split(value.strip()) if isinstance(value, str) else value


PostgresUrl = Annotated[SecretStr, AfterValidator(_check_postgres)]
RedisUrl = Annotated[SecretStr, AfterValidator(_check_redis)]
_BETWEEN_URLS = re.compile(r"[,\s]+(?=postgres)")
_MIN = timedelta(minutes=1)
_HOUR = timedelta(hours=1)
_SECOND = timedelta(seconds=1)


class DatabaseSettings(Section):
    """How to reach PostgreSQL and how long to wait for it."""

    url: PostgresUrl | None = Field(
        default=None, description="The primary, or the pooler in front of it."
    )
    replica_urls: Annotated[tuple[PostgresUrl, ...], BeforeValidator(_split_urls)] = Field(
        default=(), description="Standbys that may serve read-only transactions."
    )
    direct_url: PostgresUrl | None = Field(
        default=None, description="Past the pooler, for locks, LISTEN and migrations; default: url."
    )
    pooler: Literal["none", "pgbouncer"] = Field(
        default="none", description="What url leads to; pgbouncer turns prepared statements off."
    )
    pool_size: int = Field(default=10, ge=1, le=1000, description="Connections of one process.")
    pool_timeout: Seconds = Field(default=30.0, gt=0, description="Longest wait for a connection.")
    connect_timeout: Seconds = Field(default=5.0, ge=1, description="Longest wait for one host.")
    statement_timeout: Seconds = Field(
        default=30.0, ge=0, description="Longest statement; 0: no limit."
    )
    lock_timeout: Seconds = Field(default=10.0, ge=0, description="Longest lock wait; 0: no limit.")
    idle_in_transaction_timeout: Seconds = Field(
        default=60.0, ge=0, description="Longest pause inside a transaction; 0: no limit."
    )
    keepalives_idle: int = Field(
        default=30, ge=1, description="Seconds of silence before a TCP probe."
    )
    keepalives_interval: int = Field(default=10, ge=1, description="Seconds between TCP probes.")
    keepalives_count: int = Field(default=3, ge=1, description="Lost probes that end a connection.")
    application_name: str = Field(default="rootstream-db", description="Name in pg_stat_activity.")
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] | None = (
        Field(default=None, description="TLS; verify-full is the only mode that proves the server.")
    )
    sslrootcert: str | None = Field(
        default=None, description="File of the authority that signed the server, or 'system'."
    )
    sslcert: Path | None = Field(default=None, description="File of the client certificate.")
    sslkey: Path | None = Field(default=None, description="File of the client key.")
    max_replica_lag: Seconds = Field(
        default=5.0, ge=0, description="Older replicas are not read from."
    )
    run_attempts: int = Field(default=3, ge=1, le=100, description="Tries of Database.run.")
    circuit_failures: int = Field(
        default=5, ge=1, description="Lost connections that open the circuit."
    )
    circuit_reset: Seconds = Field(
        default=5.0, gt=0, description="Pause before one probe is let in."
    )


class RedisSettings(Section):
    """How to reach Redis or Valkey."""

    url: RedisUrl | None = Field(
        default=None, description="The server: redis://, rediss://, unix:// or redis+sentinel://."
    )
    socket_timeout: Seconds = Field(default=2.0, gt=0, description="Longest wait for an answer.")
    connect_timeout: Seconds = Field(
        default=1.0, gt=0, description="Longest wait for a connection."
    )
    retries: int = Field(
        default=3, ge=0, description="Repeats of a command after a lost connection."
    )
    max_connections: int = Field(default=50, ge=1, description="Connections of one process.")
    key_prefix: str = Field(default="rs", min_length=1, description="First part of every key.")


class CacheSettings(Section):
    """How long values live in Redis."""

    session_ttl: Duration = Field(default=24 * _HOUR, ge=_SECOND, description="Login sessions.")
    live_status_ttl: Duration = Field(
        default=_HOUR, ge=_SECOND, description="Live status of a stream."
    )
    viewer_count_ttl: Duration = Field(default=5 * _MIN, ge=_SECOND, description="Viewer counts.")
    user_ttl: Duration = Field(default=5 * _MIN, ge=_SECOND, description="Account data.")
    access_ttl: Duration = Field(
        default=_MIN,
        ge=_SECOND,
        description="Roles, grants and API keys; the longest one that was taken away is believed "
        "where Redis could not be told.",
    )


class AccountSettings(Section):
    """Passwords, lockout and one-time tokens."""

    argon2_profile: Literal["rfc9106-low-memory", "rfc9106-high-memory", "cheapest-for-tests"] = (
        Field(default="rfc9106-low-memory", description="Cost of a password hash (RFC 9106).")
    )
    lockout_failures: int = Field(default=5, ge=1, description="Wrong passwords before a lockout.")
    lockout_window: Duration = Field(
        default=15 * _MIN, ge=_SECOND, description="Failures are counted in."
    )
    lockout_base: Duration = Field(default=30 * _SECOND, ge=_SECOND, description="First lockout.")
    lockout_max: Duration = Field(default=15 * _MIN, ge=_SECOND, description="Longest lockout.")
    verification_ttl: Duration = Field(default=48 * _HOUR, ge=_SECOND, description="E-mail tokens.")
    reset_ttl: Duration = Field(default=_HOUR, ge=_SECOND, description="Password reset tokens.")
    # NIST SP 800-63B-4 asks for 15 where a password is the only factor and 8 beside a second one;
    # 12 lies between because accounts may add MFA later without a new password.
    min_password_length: int = Field(default=12, ge=8, description="Shortest password accepted.")
    max_password_length: int = Field(default=1024, ge=64, description="Longest password accepted.")


class StreamSettings(Section):
    """The live lease: how long a publisher may be silent."""

    lease_ttl: Duration = Field(
        default=15 * _SECOND, ge=_SECOND, description="Silence that ends a lease."
    )
    reconnect_grace: Duration = Field(
        default=30 * _SECOND,
        ge=timedelta(0),
        description="Time to come back into the same session.",
    )


class ViewerSettings(Section):
    """Presence of viewers and the write-behind of their counters."""

    presence_ttl: Duration = Field(
        default=45 * _SECOND, ge=_SECOND, description="Silence of a viewer."
    )
    flush_batch: int = Field(default=1000, ge=1, description="Counters moved in one transaction.")


class IngestSettings(Section):
    """The small HTTP server that media servers ask for permission."""

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(
        default=8935, ge=0, le=65535, description="Port to listen on; 0: any free one."
    )
    recordings_directory: Path | None = Field(
        default=None, description="Where recordings are read from."
    )
    hook_token: SecretStr | None = Field(
        default=None, min_length=16, description="Shared secret that hooks must present."
    )


class EmbeddedSettings(Section):
    """The servers that the package starts itself."""

    path: Path | None = Field(default=None, description="Folder of the servers' data.")
    postgres_bindir: Path | None = Field(default=None, description="Folder of postgres and initdb.")
    redis_server: Path | None = Field(default=None, description="The redis-server program.")
    run_as: str | None = Field(default=None, description="System user to run the servers as.")


class LoggingSettings(Section):
    """What is logged, and how."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        default="INFO", description="Least severity that is written."
    )
    format: Literal["console", "json"] = Field(
        default="console", description="For people or for programs."
    )

    @field_validator("level", mode="before")
    @classmethod
    def _accept_any_case(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value


class Settings(Section):
    """All settings; ``Settings()`` takes its arguments only, ``Settings.load()`` looks around."""

    database: DatabaseSettings = DatabaseSettings()
    redis: RedisSettings = RedisSettings()
    cache: CacheSettings = CacheSettings()
    security: SecuritySettings = SecuritySettings()
    sessions: SessionSettings = SessionSettings()
    accounts: AccountSettings = AccountSettings()
    detection: DetectionSettings = DetectionSettings()
    mfa: MfaSettings = MfaSettings()
    access: AccessSettings = AccessSettings()
    events: EventSettings = EventSettings()
    streams: StreamSettings = StreamSettings()
    viewers: ViewerSettings = ViewerSettings()
    ingest: IngestSettings = IngestSettings()
    webhooks: WebhookSettings = WebhookSettings()
    embedded: EmbeddedSettings = EmbeddedSettings()
    logging: LoggingSettings = LoggingSettings()

    _gathered: sources.Gathered | None = PrivateAttr(default=None)
    DEFAULT_SOURCE: ClassVar[str] = "default"

    @classmethod
    def load(
        cls,
        *,
        config_file: str | Path | None = None,
        environ: Mapping[str, str] | None = None,
        **overrides: Any,
    ) -> Self:
        """Gather settings from arguments, the environment, files and defaults, in that order.

        Args:
            config_file: a TOML file to read instead of the first one found.
            environ: what to read instead of the process's environment.
            overrides: sections as mappings or models (``database={"pool_size": 5}``), single
                settings by name (``database__pool_size=5``), or ``database_url``, ``redis_url``.

        Raises:
            ConfigurationError: naming every wrong setting and where it came from.
        """
        gathered = sources.gather(
            cls, overrides=overrides, config_file=config_file, environ=environ
        )
        try:
            settings = cls(**gathered.tree())
        except ConfigurationError as error:
            found = error.context["problems"]
            raise sources.located(found, gathered) from None
        settings._gathered = gathered
        return settings

    @property
    def sources(self) -> dict[str, str]:
        """Return where each setting came from, by dotted name; ``default`` for the untouched."""
        known = self._gathered.origins() if self._gathered else self._given()
        return {name: known.get(name, self.DEFAULT_SOURCE) for name in sources.names(type(self))}

    def file_of(self, name: str) -> Path | None:
        """Return the file whose content a setting is, by its dotted name; None for the others."""
        found = self._gathered.values.get(name) if self._gathered else None
        return found.file if found is not None else None

    @property
    def unknown_variables(self) -> tuple[str, ...]:
        """Return the ROOTSTREAM_ variables of the environment that name no setting."""
        return self._gathered.unknown if self._gathered else ()

    @property
    def config_file(self) -> Path | None:
        """Return the TOML file that was read, if one was."""
        return self._gathered.config_file if self._gathered else None

    def __eq__(self, other: object) -> bool:
        """Compare the values alone: where they came from makes no difference."""
        return type(other) is type(self) and dict(self) == dict(other)

    def __hash__(self) -> int:
        return hash(tuple(dict(self).values()))

    def require_servers(self) -> None:
        """Make sure that something says where PostgreSQL and Redis are.

        Raises:
            ConfigurationError: naming both ways, servers of one's own and embedded ones.
        """
        if self.embedded.path is not None:
            return
        missing = {"PostgreSQL": self.database.url, "Redis": self.redis.url}
        names = [name for name, url in missing.items() if url is None]
        if names:
            raise ConfigurationError(
                f"nothing says where {' and '.join(names)} can be reached. Either set "
                "ROOTSTREAM_DATABASE_URL=postgresql://user:password@host/database and "
                "ROOTSTREAM_REDIS_URL=redis://host/0, or let the package start servers of its own: "
                "RootStream.embedded(path), or ROOTSTREAM_EMBEDDED__PATH",
                setting="database.url" if "PostgreSQL" in names else "redis.url",
            )

    def _given(self) -> dict[str, str]:
        return {
            f"{section}.{key}": "argument"
            for section in self.model_fields_set
            for key in getattr(self, section).model_fields_set
        }
