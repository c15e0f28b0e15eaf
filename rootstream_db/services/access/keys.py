"""API keys: issued, recognised, rotated without a gap, revoked at once."""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import orjson

from rootstream_db.cache.keys import ACCESS_KEY, Key
from rootstream_db.clock import Clock
from rootstream_db.errors import (
    ConflictError,
    InvalidTokenError,
    RootStreamError,
    SessionExpiredError,
    SessionRevokedError,
    ValidationError,
)
from rootstream_db.models import User
from rootstream_db.models.access import ApiKey
from rootstream_db.security.permissions import PermissionSet
from rootstream_db.security.tokens import SecretText, TokenKind
from rootstream_db.services.access.changes import AccessChange, AccessChanges
from rootstream_db.services.access.fence import Entry, FencedCache
from rootstream_db.services.access.journal import AccessJournal
from rootstream_db.services.access.rules import check_expiry, check_label
from rootstream_db.services.access.subjects import ApiKeyInfo
from rootstream_db.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    from rootstream_db.cache import RedisCache
    from rootstream_db.database import Database
    from rootstream_db.security.token_mint import IssuedToken, TokenMint
    from rootstream_db.services.access.reading import AccessReader

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

logger = logging.getLogger(__name__)


class ApiKeys:
    """Keys by which programs act for accounts.

    A key may do what both its scopes and its account's permissions allow, at the time of the
    question: what the account loses, its keys lose with it.

    Args:
        database: where the keys are; uses are recorded in transactions beside the caller's.
        cache: names the keys of Redis.
        fence: what keeps cached keys from outliving a change.
        changes: where changes are noted.
        reader: what accounts may do.
        journal: where changes are recorded.
        tokens: the mint.
        overlap: how long a rotated key goes on to work, unless told otherwise.
        clock: the source of the current time.
    """

    def __init__(
        self,
        database: Database,
        cache: RedisCache,
        fence: FencedCache,
        *,
        changes: AccessChanges,
        reader: AccessReader,
        journal: AccessJournal,
        tokens: TokenMint,
        overlap: timedelta,
        clock: Clock,
    ) -> None:
        self._database = database
        self._cache = cache
        self._fence = fence
        self._changes = changes
        self._reader = reader
        self._journal = journal
        self._tokens = tokens
        self._overlap = overlap
        self._clock = clock

    def issue(
        self,
        work: UnitOfWork,
        user: User,
        *,
        scopes: Collection[str],
        label: str = "",
        expires_at: datetime | None = None,
    ) -> tuple[ApiKey, SecretText]:
        """Make a key that acts for an account.

        Args:
            work: the unit of work.
            user: the account.
            scopes: the most the key may do, as permissions and patterns of them.
            label: what it is for, one line.
            expires_at: when it ends; None: never.

        Returns:
            The key's row, and the key: shown this once, stored only as a digest.

        Raises:
            ValidationError: there are no scopes, or a value cannot be used.
        """
        check_expiry(expires_at, work.now)
        token = self._tokens.issue(TokenKind.API_KEY)
        key = work.api_keys.add(
            _row(token, user.id, _scopes(scopes), label=check_label(label), expires_at=expires_at)
        )
        self._record(work, key, "ApiKeyIssued")
        return key, token.text

    def authenticate(self, token: object) -> ApiKeyInfo:
        """Return whose key this is and what it may do at most; hand it to ``require``.

        Raises:
            InvalidTokenError: it is no API key, or none that was issued here.
            SessionExpiredError: it has expired, or its overlap after a rotation is over.
            SessionRevokedError: it was revoked, or its account is closed.
        """
        digest = self._tokens.digest(token, TokenKind.API_KEY)
        cached_as = self._key(digest)
        (entry,) = self._fence.get(cached_as)
        info = self._load(digest, cached_as) if entry is None else _unpacked(entry.payload)
        if info.expires_at is not None and info.expires_at <= self._clock():
            raise SessionExpiredError("this API key has expired", api_key_id=info.key_id)
        if not self._reader.standing(info.user_id).is_active:
            raise SessionRevokedError(
                "the account of this API key is closed", api_key_id=info.key_id
            )
        return info

    def rotate(
        self, work: UnitOfWork, key: ApiKey, *, overlap: timedelta | None = None
    ) -> tuple[ApiKey, SecretText]:
        """Make the successor of a key, which goes on to work for the overlap and then ends.

        The successor has the same label and scopes, and if the key was to end it lives as long as
        the key was meant to.

        Returns:
            The successor's row, and the successor: shown this once.

        Raises:
            ConflictError: the key was rotated or revoked before, or has expired.
            ValidationError: the overlap is negative.
        """
        window = self._overlap if overlap is None else overlap
        if window < timedelta(0):
            raise ValidationError("an overlap cannot be negative", field="overlap")
        old = work.api_keys.lock(key.id)
        _check_rotatable(old, work.now)
        lives = None if old.expires_at is None else old.expires_at - old.created_at
        token = self._tokens.issue(TokenKind.API_KEY)
        new = _row(
            token,
            old.user_id,
            old.scopes,
            label=old.label,
            expires_at=None if lives is None else work.now + lives,
        )
        new.rotated_from = old.id
        work.api_keys.add(new)
        ends = work.now + window
        old.rotated_at = work.now
        old.expires_at = ends if old.expires_at is None else min(old.expires_at, ends)
        old.version += 1
        self._changes.of_version(work, self._key(old.key_hash), old.version)
        self._record(work, old, "ApiKeyRotated", successor_id=new.id)
        self._record(work, new, "ApiKeyIssued")
        return new, token.text

    def revoke(self, work: UnitOfWork, key: ApiKey) -> AccessChange:
        """Withdraw a key for ever; revoking it again changes nothing.

        Returns:
            When it is refused everywhere.
        """
        held = work.api_keys.lock(key.id)
        if held.revoked_at is None:
            held.revoked_at = work.now
            held.version += 1
            self._record(work, held, "ApiKeyRevoked")
        return self._changes.of_version(work, self._key(held.key_hash), held.version)

    def _record(self, work: UnitOfWork, key: ApiKey, event: str, **more: Any) -> None:
        # What somebody called a key is about them, and erased with them.
        personal = {"label": key.label} if key.label else None
        self._journal.user(work, key.user_id, event, {**_facts(key), **more}, personal=personal)

    def _load(self, digest: bytes, cached_as: Key) -> ApiKeyInfo:
        """Return the key as PostgreSQL has it, and keep it for the next time."""
        now = self._clock()
        with self._database.read() as work:
            row = work.api_keys.get_by_hash(digest)
        if row is None:
            raise InvalidTokenError("unknown")
        if row.revoked_at is not None:
            raise SessionRevokedError("this API key was revoked", api_key_id=row.id)
        self._fence.fill(cached_as, Entry(row.version, now, _packed(row)))
        self._record_use(row, now)
        return _info(row)

    def _record_use(self, row: ApiKey, now: datetime) -> None:
        """Record that the key was used, unless that was done lately; it is no reason to refuse."""
        since = now - self._fence.max_stale
        if row.last_used_at is not None and row.last_used_at > since:
            return
        try:
            with self._database.independent() as work:
                work.api_keys.record_use(row.id, now, unless_since=since)
        except RootStreamError:
            logger.warning("the use of API key %d could not be recorded", row.id, exc_info=True)

    def _key(self, digest: bytes) -> Key:
        return self._cache.key(ACCESS_KEY, key_hash=digest.hex())


def _row(
    token: IssuedToken,
    user_id: int,
    scopes: list[str],
    *,
    label: str,
    expires_at: datetime | None,
) -> ApiKey:
    return ApiKey(
        user_id=user_id,
        label=label,
        prefix=token.prefix,
        key_hash=token.digest,
        scopes=list(scopes),
        expires_at=expires_at,
    )


def _scopes(patterns: Collection[str]) -> list[str]:
    if isinstance(patterns, str) or not patterns:
        raise ValidationError("scopes is a collection of at least one permission", field="scopes")
    return list(PermissionSet(patterns))


def _check_rotatable(key: ApiKey, now: datetime) -> None:
    reason = None
    if key.revoked_at is not None:
        reason = "was revoked"
    elif key.rotated_at is not None:
        reason = "was rotated before"
    elif key.expires_at is not None and key.expires_at <= now:
        reason = "has expired"
    if reason is not None:
        raise ConflictError(f"API key {key.id} {reason}: issue a new one", api_key_id=key.id)


def _facts(key: ApiKey) -> dict[str, Any]:
    return {
        "api_key_id": key.id,
        "prefix": key.prefix,
        "scopes": key.scopes,
        "expires_at": None if key.expires_at is None else key.expires_at.isoformat(),
    }


def _info(row: ApiKey) -> ApiKeyInfo:
    return ApiKeyInfo(
        key_id=row.id,
        user_id=row.user_id,
        label=row.label,
        scopes=PermissionSet(row.scopes),
        expires_at=row.expires_at,
    )


def _packed(row: ApiKey) -> bytes:
    ends = None if row.expires_at is None else (row.expires_at - _EPOCH) // _MICROSECOND
    return orjson.dumps([row.id, row.user_id, row.label, row.scopes, ends])


def _unpacked(payload: bytes) -> ApiKeyInfo:
    key_id, user_id, label, scopes, ends = orjson.loads(payload)
    return ApiKeyInfo(
        key_id=key_id,
        user_id=user_id,
        label=label,
        scopes=PermissionSet(scopes),
        expires_at=None if ends is None else _EPOCH + ends * _MICROSECOND,
    )
