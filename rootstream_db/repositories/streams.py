"""Where streams, their keys, their live state and their totals are found."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Double,
    SmallInteger,
    and_,
    bindparam,
    func,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from rootstream_db.models import Stream, StreamKey, StreamLive, StreamSession, StreamTotals, User
from rootstream_db.repositories.base import Repository

_OPEN_SESSION = and_(
    StreamSession.stream_id == StreamLive.stream_id, StreamSession.ended_at.is_(None)
)

_NOTHING_SEEN: Final = dict.fromkeys(("bitrate_kbps", "fps", "width", "height", "bytes_in"))

# Run for every heartbeat: text, because building it anew each time takes longer than running it.
_RENEW: Final = text("""
WITH unhurried AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
UPDATE stream_live AS l SET
    alive_at = :now,
    grace_until = :expires_at + (l.grace_until - l.lease_expires_at),
    lease_expires_at = :expires_at,
    bitrate_kbps = coalesce(:bitrate_kbps, l.bitrate_kbps),
    fps = coalesce(:fps, l.fps),
    width = coalesce(:width, l.width),
    height = coalesce(:height, l.height),
    bytes_in = greatest(l.bytes_in, :bytes_in)
FROM unhurried
WHERE l.stream_id = :stream_id AND l.lease_epoch = :epoch
    AND l.is_live AND l.lease_expires_at IS NOT NULL AND l.grace_until > :now
RETURNING l.*, (SELECT started_at FROM stream_sessions WHERE id = l.stream_session_id)
""").bindparams(
    bindparam("bitrate_kbps", type_=BigInteger),
    bindparam("fps", type_=Double),
    bindparam("width", type_=SmallInteger),
    bindparam("height", type_=SmallInteger),
    bindparam("bytes_in", type_=BigInteger),
)


class StreamRepository(Repository[Stream]):
    """Streams: what their owners decided about them."""

    model = Stream

    def get_by_public_id(self, public_id: uuid.UUID) -> Stream | None:
        """Return the stream that is known by that id outside, or None."""
        return self.session.scalar(select(Stream).where(Stream.public_id == public_id))

    def list_by_owner(
        self, owner_id: int, *, after_id: int = 0, limit: int = 100
    ) -> Sequence[Stream]:
        """Return the owner's streams in the order they were made."""
        query = select(Stream).where(Stream.owner_id == owner_id, Stream.id > after_id)
        return self.session.scalars(query.order_by(Stream.id).limit(limit)).all()

    def list_by_ids(self, ids: Collection[int]) -> Sequence[Stream]:
        """Return those of the streams that exist."""
        return self.session.scalars(select(Stream).where(Stream.id.in_(ids))).all()


class StreamKeyRepository(Repository[StreamKey]):
    """Stream keys, found by the digest of the secret."""

    model = StreamKey

    def get_by_hash(self, key_hash: bytes) -> StreamKey | None:
        """Return the key with that digest, whatever its state, or None."""
        return self.session.scalar(select(StreamKey).where(StreamKey.key_hash == key_hash))

    def get_with_stream(self, key_hash: bytes) -> tuple[StreamKey, Stream, bool] | None:
        """Return the key, its stream and whether the stream's owner is active, or None."""
        query = (
            select(StreamKey, Stream, User.is_active)
            .join(Stream, Stream.id == StreamKey.stream_id)
            .join(User, User.id == Stream.owner_id)
            .where(StreamKey.key_hash == key_hash)
        )
        row = self.session.execute(query).one_or_none()
        return None if row is None else (row[0], row[1], row[2])

    def list_by_stream(self, stream_id: int) -> Sequence[StreamKey]:
        """Return the stream's keys, revoked ones included, in the order they were made."""
        query = select(StreamKey).where(StreamKey.stream_id == stream_id)
        return self.session.scalars(query.order_by(StreamKey.id)).all()

    def record_use(self, key_id: int, now: datetime) -> bool:
        """Record that the key published; return False if it was revoked in the meantime."""
        query = (
            update(StreamKey)
            .where(StreamKey.id == key_id, StreamKey.revoked_at.is_(None))
            .values(last_used_at=now)
            .returning(StreamKey.id)
            .execution_options(synchronize_session=False)
        )
        return self.session.scalar(query) is not None

    def revoke(self, key_id: int, now: datetime) -> bool:
        """Revoke the key; return False if it was revoked before."""
        query = (
            update(StreamKey)
            .where(StreamKey.id == key_id, StreamKey.revoked_at.is_(None))
            .values(revoked_at=now)
            .returning(StreamKey)
            .execution_options(synchronize_session=False, populate_existing=True)
        )
        return self.session.scalar(query) is not None


class StreamLiveRepository(Repository[StreamLive]):
    """The one hot row of each stream; whoever decides about a lease locks it first."""

    model = StreamLive

    def lock(self, stream_id: int) -> StreamLive | None:
        """Return the row as it is now, locked until the transaction ends, or None."""
        query = (
            select(StreamLive)
            .where(StreamLive.stream_id == stream_id)
            .with_for_update()
            .execution_options(populate_existing=True)
        )
        return self.session.scalar(query)

    def lock_overdue(self, now: datetime, *, limit: int) -> Sequence[StreamLive]:
        """Lock and return rows whose lease or grace ran out; rows locked by others are left out.

        Open sessions lead the way, because ``stream_live`` has no index to search by.
        """
        lapsed = and_(StreamLive.is_live, StreamLive.lease_expires_at <= now)
        query = (
            select(StreamLive)
            .join(StreamSession, _OPEN_SESSION)
            .where(or_(StreamLive.grace_until <= now, lapsed))
            .limit(limit)
            .with_for_update(of=StreamLive, skip_locked=True)
            .execution_options(populate_existing=True)
        )
        return self.session.scalars(query).all()

    def renew(
        self,
        stream_id: int,
        *,
        epoch: int,
        now: datetime,
        expires_at: datetime,
        seen: Mapping[str, Any],
    ) -> tuple[StreamLive, datetime] | None:
        """Renew the lease of ``epoch`` in one statement, if it still holds and is announced.

        The grace keeps its length behind the lease. ``seen`` are the columns that the publisher
        reported; ``bytes_in`` never goes back, because reports may arrive out of order.

        The commit does not wait for the disk or a standby: a server that crashes may forget the
        last half second of renewals, which the next ones bring back.

        Returns:
            The renewed row, not attached to the session, and the start of its stream session; None
            if the lease does not hold.
        """
        lease = {"stream_id": stream_id, "epoch": epoch, "now": now, "expires_at": expires_at}
        row = self.session.execute(_RENEW, {**_NOTHING_SEEN, **seen, **lease}).one_or_none()
        if row is None:
            return None
        columns = dict(row._mapping)  # noqa: SLF001 - how SQLAlchemy calls its public mapping
        started_at = columns.pop("started_at")
        return StreamLive(**columns), started_at

    def list_live(self) -> Sequence[tuple[StreamLive, StreamSession]]:
        """Return the live state and the session of every stream with an open session."""
        query = select(StreamLive, StreamSession).join(StreamSession, _OPEN_SESSION)
        rows = self.session.execute(query.order_by(StreamSession.started_at, StreamSession.id))
        return [(row[0], row[1]) for row in rows]

    def get_with_session(self, stream_id: int) -> tuple[StreamLive, StreamSession | None] | None:
        """Return the live state and the open session of one stream, or None."""
        query = (
            select(StreamLive, StreamSession)
            .outerjoin(StreamSession, StreamSession.id == StreamLive.stream_session_id)
            .where(StreamLive.stream_id == stream_id)
        )
        row = self.session.execute(query).one_or_none()
        return None if row is None else (row[0], row[1])

    def database_time(self) -> datetime:
        """Return the database server's own clock."""
        now: datetime = self.session.execute(select(func.clock_timestamp())).scalar_one()
        return now


class StreamTotalsRepository(Repository[StreamTotals]):
    """All-time sums of streams."""

    model = StreamTotals

    def list_by_streams(self, stream_ids: Collection[int]) -> Sequence[StreamTotals]:
        """Return the totals of those of the streams that have any."""
        query = select(StreamTotals).where(StreamTotals.stream_id.in_(stream_ids))
        return self.session.scalars(query).all()

    def ensure(self, stream_ids: Collection[int]) -> None:
        """Insert zeros for the streams that have no totals yet."""
        rows = [{"stream_id": stream_id} for stream_id in sorted(stream_ids)]
        if rows:
            self.session.execute(insert(StreamTotals).values(rows).on_conflict_do_nothing())
