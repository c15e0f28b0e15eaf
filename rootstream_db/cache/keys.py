"""The one table of everything kept in Redis: each key's shape, lifetime and reason."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from string import Formatter
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import quote

from rootstream_db.errors import ValidationError

if TYPE_CHECKING:
    from rootstream_db.settings import CacheSettings

LONGEST_PART: Final = 128
"""Characters of one part of a key; longer ones are replaced by their SHA-256."""


class Key(str):
    """A rendered key that knows how long its value lives, so that no write forgets its TTL."""

    __slots__ = ("ttl",)

    ttl: timedelta | None

    def __new__(cls, text: str, ttl: timedelta | None = None) -> Self:
        """Make the key ``text`` whose values live for ``ttl``; None is for ever."""
        key = super().__new__(cls, text)
        key.ttl = ttl
        return key


@dataclass(frozen=True, slots=True)
class KeySpec:
    """One row of the table.

    Attributes:
        name: how code and documentation call it.
        pattern: the key below the prefix; ``{{...}}`` is a Redis Cluster hash tag.
        kind: the Redis type stored there, or ``channel``.
        purpose: why it exists, for the reference page.
        setting: the field of ``CacheSettings`` that holds its lifetime.
        ttl: its lifetime when no setting decides; None means until deleted.
    """

    name: str
    pattern: str
    kind: str
    purpose: str
    setting: str | None = None
    ttl: timedelta | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the names that ``Keys.key`` must be given."""
        return tuple(name for _, name, _, _ in Formatter().parse(self.pattern) if name)


SESSION: Final = KeySpec(
    "session",
    "session:{token_hash}",
    "string",
    "a login session, so that validating a token does not ask PostgreSQL",
    setting="session_ttl",
)
USER: Final = KeySpec(
    "user",
    "user:{user_id}",
    "string",
    "a user's public profile",
    setting="user_ttl",
)
LIVE_STATUS: Final = KeySpec(
    "live_status",
    "live:{stream_id}",
    "string",
    "whether a stream is live, and its picture and bitrate",
    setting="live_status_ttl",
)
VIEWER_COUNT: Final = KeySpec(
    "viewer_count",
    "{{viewers}}:count:{stream_id}",
    "string",
    "how many viewers a stream had at the last flush",
    setting="viewer_count_ttl",
)
VIEWER_SEEN: Final = KeySpec(
    "viewer_seen",
    "{{viewers}}:seen:{stream_id}",
    "sorted set",
    "the viewers of a stream by the time of their last heartbeat",
)
VIEWER_VISITS: Final = KeySpec(
    "viewer_visits",
    "{{viewers}}:visits:{stream_id}",
    "hash",
    "the visits under way: since when, how long watched, how much sent",
)
VIEWER_DUE: Final = KeySpec(
    "viewer_due",
    "{{viewers}}:due",
    "sorted set",
    "the streams by the time when one of their viewers may have fallen silent",
)
VIEWER_BOARD: Final = KeySpec(
    "viewer_board",
    "{{viewers}}:board",
    "sorted set",
    "the streams by their number of viewers",
)
VIEWER_DELTA: Final = KeySpec(
    "viewer_delta",
    "{{viewers}}:delta",
    "hash",
    "increments that PostgreSQL has not been told, and the id they will be flushed under",
)
VIEWER_ENDED: Final = KeySpec(
    "viewer_ended",
    "{{viewers}}:ended",
    "list",
    "visits that ended and are not in PostgreSQL yet",
)
VIEWER_FLUSHES: Final = KeySpec(
    "viewer_flushes",
    "{{viewers}}:flushes",
    "set",
    "the flushes under way or left behind by a process that died",
)
VIEWER_FLUSH: Final = KeySpec(
    "viewer_flush",
    "{{viewers}}:flush:{flush_id}",
    "hash",
    "the increments of one flush; nothing is added to them any more",
)
VIEWER_FLUSH_VISITS: Final = KeySpec(
    "viewer_flush_visits",
    "{{viewers}}:flush:{flush_id}:visits",
    "list",
    "the ended visits of one flush",
)
VIEWER_SALT: Final = KeySpec(
    "viewer_salt",
    "{{viewers}}:salt:{day}",
    "string",
    "a day's secret, without which the viewers' hashes of that day cannot be traced back",
    ttl=timedelta(days=3),
)
RATE_LIMIT: Final = KeySpec(
    "rate_limit",
    "limit:{limit}:{subject}",
    "hash",
    "how far a subject has used up a rate limit, and its blocks; gone when it says nothing more",
)
ACCESS_ROLES: Final = KeySpec(
    "access_roles",
    "{{access}}:roles",
    "string",
    "the generation of all roles, by which processes know that theirs are still the ones",
    setting="access_ttl",
)
ACCESS_USER: Final = KeySpec(
    "access_user",
    "{{access}}:user:{user_id}",
    "string",
    "an account's grants, authenticated; or, after a change, the version that older ones lack",
    setting="access_ttl",
)
ACCESS_KEY: Final = KeySpec(
    "access_key",
    "{{access}}:key:{key_hash}",
    "string",
    "an API key's account and scopes, authenticated; or the version that older ones lack",
    setting="access_ttl",
)
CHANNEL: Final = KeySpec(
    "channel",
    "bus:{topic}",
    "channel",
    "messages of the event bus on one topic; nothing is stored",
)

TABLE: Final[tuple[KeySpec, ...]] = (
    SESSION,
    USER,
    LIVE_STATUS,
    VIEWER_COUNT,
    VIEWER_SEEN,
    VIEWER_VISITS,
    VIEWER_DUE,
    VIEWER_BOARD,
    VIEWER_DELTA,
    VIEWER_ENDED,
    VIEWER_FLUSHES,
    VIEWER_FLUSH,
    VIEWER_FLUSH_VISITS,
    VIEWER_SALT,
    RATE_LIMIT,
    ACCESS_ROLES,
    ACCESS_USER,
    ACCESS_KEY,
    CHANNEL,
)


class Keys:
    """Renders the table's keys under one prefix, with the lifetimes of one configuration."""

    def __init__(self, prefix: str, ttls: CacheSettings) -> None:
        self.prefix = prefix
        self._ttls = ttls

    def key(self, spec: KeySpec, **parts: object) -> Key:
        """Return the key of ``spec`` for these parts, e.g. ``key(LIVE_STATUS, stream_id=7)``."""
        if set(parts) != set(spec.parts):
            raise ValidationError(
                f"the key {spec.name} is made of {', '.join(spec.parts) or 'no parts'}", field="key"
            )
        written = {name: _safe(str(value)) for name, value in parts.items()}
        return Key(f"{self.prefix}:{spec.pattern.format(**written)}", self.ttl(spec))

    def ttl(self, spec: KeySpec) -> timedelta | None:
        """Return how long values of ``spec`` live; None is until they are deleted."""
        if spec.setting is None:
            return spec.ttl
        ttl: timedelta = getattr(self._ttls, spec.setting)
        return ttl

    def as_markdown(self) -> str:
        """Return the table for the reference page."""
        rows = [
            f"| `{spec.name}` | `{self._shown(spec)}` | {spec.kind} "
            f"| {self._lifetime(spec)} | {spec.purpose} |"
            for spec in TABLE
        ]
        head = ["| name | key | type | lives | what for |", "|---|---|---|---|---|"]
        return "\n".join(head + rows)

    def _shown(self, spec: KeySpec) -> str:
        names = {name: f"<{name}>" for name in spec.parts}
        return f"{self.prefix}:{spec.pattern.format(**names)}"

    def _lifetime(self, spec: KeySpec) -> str:
        ttl = self.ttl(spec)
        length = "until deleted" if ttl is None else f"{ttl.total_seconds():g} s"
        return length if spec.setting is None else f"{length} (`cache.{spec.setting}`)"


def channel_name(prefix: str, topic: str) -> str:
    """Return the pub/sub channel of ``topic``, which may be a pattern and is checked by the bus."""
    return f"{prefix}:{CHANNEL.pattern.format(topic=topic)}"


def _safe(part: str) -> str:
    """Return ``part`` so that no text can pass for another key, a hash tag or a pattern.

    Quoting is injective: two different parts never make the same key.
    """
    if part.isalnum() and part.isascii() and len(part) <= LONGEST_PART:
        return part
    quoted = quote(part, safe="@", errors="surrogatepass")
    if len(quoted) <= LONGEST_PART:
        return quoted
    digest = hashlib.sha256(part.encode(errors="surrogatepass")).hexdigest()
    return f"sha256:{digest}"
