"""Streams and their keys as their owners see them: made, changed, issued, revoked, deleted."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Unpack

from rootstream_db.errors import NotFoundError
from rootstream_db.models import (
    EndReason,
    Stream,
    StreamKey,
    StreamLive,
    StreamSession,
    StreamTotals,
    User,
)
from rootstream_db.security.tokens import SecretText, TokenKind
from rootstream_db.services.streams.board import LiveBoard
from rootstream_db.services.streams.broadcasts import Broadcast, Broadcasts
from rootstream_db.services.streams.rules import (
    StreamChanges,
    StreamConfig,
    check_changes,
    check_label,
    check_validity,
)
from rootstream_db.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    from rootstream_db.security.token_mint import TokenMint
    from rootstream_db.services.event_store import EventStore


class StreamCatalogue:
    """What an owner does with streams, in the caller's unit of work."""

    _events: EventStore
    _tokens: TokenMint
    _board: LiveBoard
    _broadcasts: Broadcasts

    def create(
        self, work: UnitOfWork, *, owner: User, name: str, **config: Unpack[StreamConfig]
    ) -> tuple[Stream, SecretText]:
        """Make a stream and its first key.

        Returns:
            The stream, and the key: shown this once, stored only as a digest.

        Raises:
            ValidationError: the name or a setting breaks a rule.
        """
        columns = check_changes({"name": name, **config})
        stream = work.streams.add(Stream(owner_id=owner.id, **columns))
        work.stream_live.add(StreamLive(stream_id=stream.id))
        work.stream_totals.add(StreamTotals(stream_id=stream.id))
        self._append(
            work, stream, "StreamCreated", {"public_id": str(stream.public_id), **_public(columns)}
        )
        _, key = self.issue_key(work, stream)
        return stream, key

    def update(self, work: UnitOfWork, stream: Stream, **changes: Unpack[StreamChanges]) -> Stream:
        """Change what the owner decided; a broadcast that is on the air goes on.

        A new grace holds from the next lease on.

        Raises:
            ValidationError: a change is unknown or breaks a rule.
        """
        columns = check_changes(changes)
        changed = {name: new for name, new in columns.items() if getattr(stream, name) != new}
        if changed:
            for name, value in changed.items():
                setattr(stream, name, value)
            work.session.flush()
            self._append(work, stream, "StreamUpdated", _public(changed))
        return stream

    def delete(self, work: UnitOfWork, stream: Stream) -> None:
        """Delete the stream with its keys, sessions and recordings' rows; end it if it is live.

        The recordings' files and what was metered stay.
        """
        self.end(work, stream)
        # Its last changes must reach the rows before these go.
        work.session.flush()
        self._append(work, stream, "StreamDeleted", {"name": stream.name})
        self._board.forget(work, stream.id)
        work.streams.delete(stream)

    def end(
        self, work: UnitOfWork, stream: Stream, *, reason: EndReason = EndReason.STOPPED
    ) -> StreamSession | None:
        """End the stream's broadcast now, whoever publishes it; its lease is void at once.

        Returns:
            The session that ended, or None if the stream was offline.
        """
        broadcast = self._lock(work, stream)
        if broadcast.live.stream_session_id is None:
            return None
        return self._broadcasts.close(broadcast, reason)

    def issue_key(
        self,
        work: UnitOfWork,
        stream: Stream,
        *,
        label: str = "",
        not_before: datetime | None = None,
        expires_at: datetime | None = None,
    ) -> tuple[StreamKey, SecretText]:
        """Make another key for the stream; the others stay valid.

        Returns:
            The key's row, and the key: shown this once, stored only as a digest.

        Raises:
            ValidationError: the label or the validity breaks a rule.
        """
        check_validity(not_before, expires_at, work.now)
        issued = self._tokens.issue(TokenKind.STREAM_KEY)
        key = work.stream_keys.add(
            StreamKey(
                stream_id=stream.id,
                key_hash=issued.digest,
                prefix=issued.prefix,
                label=check_label(label),
                not_before=not_before,
                expires_at=expires_at,
            )
        )
        validity = {"not_before": _iso(not_before), "expires_at": _iso(expires_at)}
        self._append(work, stream, "StreamKeyIssued", {**_name(key), **validity})
        return key, issued.text

    def revoke_key(self, work: UnitOfWork, key: StreamKey) -> None:
        """Withdraw the key for ever; a broadcast that was started or resumed with it ends now.

        Revoking it again changes nothing.
        """
        stream = work.streams.get_one(key.stream_id)
        # The live row first, as in start(): whoever comes second sees what the first one did.
        broadcast = self._lock(work, stream)
        if not work.stream_keys.revoke(key.id, work.now):
            return
        self._append(work, stream, "StreamKeyRevoked", _name(key))
        if broadcast.live.stream_key_id == key.id:
            self._broadcasts.close(broadcast, EndReason.KEY_REVOKED)

    def _lock(self, work: UnitOfWork, stream: Stream) -> Broadcast:
        live = work.stream_live.lock(stream.id)
        if live is None:
            raise NotFoundError("Stream", stream.id)
        return Broadcast(work, stream, live)

    def _append(
        self, work: UnitOfWork, stream: Stream, event_type: str, data: dict[str, Any]
    ) -> None:
        self._events.append(
            work, "Stream", str(stream.id), event_type, data, user_id=stream.owner_id
        )


def _public(columns: dict[str, Any]) -> dict[str, Any]:
    return {name.rstrip("_"): value for name, value in columns.items()}


def _name(key: StreamKey) -> dict[str, Any]:
    return {"stream_key_id": key.id, "prefix": key.prefix, "label": key.label}


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
