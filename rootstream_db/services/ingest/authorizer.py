"""May this connection publish, go on, watch? The decision about each hook, and what follows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rootstream_db.audit import acting
from rootstream_db.errors import (
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    StaleLeaseError,
    ValidationError,
)
from rootstream_db.models import Stream, StreamSession, Visibility
from rootstream_db.services.ingest.requests import Decision, HookEvent, IngestRequest
from rootstream_db.services.live_lease import Phase
from rootstream_db.services.streams.lease_keeper import key_digest
from rootstream_db.services.streams.values import Lease, lease_of, lease_state

if TYPE_CHECKING:
    from rootstream_db.database import Database
    from rootstream_db.security.token_mint import TokenMint
    from rootstream_db.services.recordings import RecordingManager
    from rootstream_db.services.streams import StreamManager
    from rootstream_db.services.viewers import ViewerManager
    from rootstream_db.unit_of_work import UnitOfWork

_REFUSALS: Final = (PermissionDeniedError, ConflictError, NotFoundError, ValidationError)
_HELD: Final = (Phase.HELD, Phase.LAPSED)


class IngestAuthorizer:
    """Turns the hooks of media servers into leases, viewers and recordings.

    Nothing is remembered between hooks: a connection's lease is found in PostgreSQL by the name
    ``node/connection``, so that a hook server may die at any time and any number of them may run.
    Hooks may come twice, late or in the wrong order; each is answered by what is stored now:

    * a connection that asks to publish again gets the lease it has;
    * a goodbye of a connection that holds no lease, or no longer, changes nothing;
    * a sign of life of such a connection is refused, which makes nginx-rtmp close it. That is how
      a revoked key ends a broadcast at the media server too.

    Expiry of a key is about starting: a broadcast that is on the air goes on, and cannot be resumed
    afterwards. Revoking a key ends it.
    """

    def __init__(
        self,
        database: Database,
        *,
        tokens: TokenMint,
        streams: StreamManager,
        recordings: RecordingManager,
        viewers: ViewerManager,
    ) -> None:
        self._database = database
        self._tokens = tokens
        self._streams = streams
        self._recordings = recordings
        self._viewers = viewers
        self._answers: dict[HookEvent, Callable[[IngestRequest], Decision]] = {
            HookEvent.PUBLISH: self._publish,
            HookEvent.UPDATE: self._update,
            HookEvent.UNPUBLISH: self._unpublish,
            HookEvent.PLAY: self._play,
            HookEvent.WATCH: self._watch,
            HookEvent.PLAY_DONE: self._play_done,
            HookEvent.PLAYBACK: self._playback,
            HookEvent.RECORD_DONE: self._record_done,
        }

    def authorize(self, request: IngestRequest) -> Decision:
        """Decide about a hook and do what follows from it.

        Events recorded meanwhile carry the address of the connection.

        Raises:
            DatabaseUnavailableError: nothing could be decided; the media server must refuse.
        """
        try:
            with acting(ip_address=request.ip_address):
                return self._answers[request.event](request)
        except _REFUSALS as error:
            return Decision(allow=False, reason=str(error))

    # Publishers

    def _publish(self, request: IngestRequest) -> Decision:
        if request.key is None:
            return Decision(allow=False, reason="no stream key was presented")
        digest = key_digest(self._tokens, request.key)
        with self._database.read() as work:
            known = work.stream_keys.get_with_stream(digest)
        stream = None if known is None else known[1]
        named = request.public_id is not None
        if stream is not None and named and request.public_uuid != stream.public_id:
            # The server publishes under the path it names: viewers of that path would be misled.
            return _about(stream, allow=False, reason="the key is not one of this stream's")
        lease = self._streams.start(
            request.key,
            node=request.node,
            connection_id=request.connection_id,
            protocol=request.protocol,
            encoder=request.encoder,
            ip_address=request.ip_address,
        )
        reason = "the broadcast is resumed" if lease.resumed else "the key is valid"
        return Decision(
            allow=True,
            reason=reason,
            stream_id=lease.stream_id,
            public_id=None if stream is None else stream.public_id,
            lease=lease,
        )

    def _update(self, request: IngestRequest) -> Decision:
        if request.silent:
            return Decision(allow=False, reason="the publisher has not sent anything")
        lease = self._lease(request)
        if lease is None:
            return Decision(allow=False, reason="the connection holds no lease")
        try:
            renewed = self._streams.heartbeat(lease)
        except StaleLeaseError as error:
            return Decision(allow=False, reason=str(error), stream_id=lease.stream_id)
        return Decision(
            allow=True, reason="the lease is renewed", stream_id=lease.stream_id, lease=renewed
        )

    def _unpublish(self, request: IngestRequest) -> Decision:
        lease = self._lease(request)
        if lease is None:
            return Decision(allow=True, reason="ignored: the connection holds no lease")
        try:
            self._streams.disconnect(lease)
        except StaleLeaseError as error:
            reason = f"ignored: {error}"
            return Decision(allow=True, reason=reason, stream_id=lease.stream_id)
        return Decision(allow=True, reason="the publisher left", stream_id=lease.stream_id)

    def _lease(self, request: IngestRequest) -> Lease | None:
        with self._database.read() as work:
            stream_id = self._stream_id(work, request)
            live = None if stream_id is None else work.stream_live.get(stream_id)
            if live is None or live.lease_owner != request.owner:
                return None
            return lease_of(live) if lease_state(live).phase(work.now) in _HELD else None

    def _stream_id(self, work: UnitOfWork, request: IngestRequest) -> int | None:
        """Return the stream that a hook is about: its key's, revoked or not, else the named one."""
        if request.key is None:
            stream = _public_stream(work, request)
            return None if stream is None else stream.id
        try:
            key = work.stream_keys.get_by_hash(key_digest(self._tokens, request.key))
        except PermissionDeniedError:
            return None
        return None if key is None else key.stream_id

    # Viewers

    def _play(self, request: IngestRequest) -> Decision:
        stream = self._visible(request)
        if self._is_full(stream, request):
            return _about(stream, allow=False, reason=f"all {stream.max_viewers} places are taken")
        return self._seen(stream, request)

    def _watch(self, request: IngestRequest) -> Decision:
        return self._seen(self._visible(request), request)

    def _playback(self, request: IngestRequest) -> Decision:
        return _about(self._visible(request), allow=True, reason="the stream may be watched")

    def _play_done(self, request: IngestRequest) -> Decision:
        with self._database.read() as work:
            stream_id = self._stream_id(work, request)
        if stream_id is None:
            return Decision(allow=True, reason="ignored: no such stream")
        self._viewers.leave(stream_id, viewer=request.owner)
        return Decision(allow=True, reason="the viewer left", stream_id=stream_id)

    def _visible(self, request: IngestRequest) -> Stream:
        with self._database.read() as work:
            stream = _public_stream(work, request)
        if stream is None:
            raise PermissionDeniedError("no stream has this name")
        if stream.visibility is Visibility.PRIVATE:
            raise PermissionDeniedError("the stream is private")
        return stream

    def _is_full(self, stream: Stream, request: IngestRequest) -> bool:
        """Tell whether another viewer would be one too many; viewers who are there already stay.

        Viewers who come at the very same moment may all be let in.
        """
        if stream.max_viewers is None or self._viewers.count(stream.id) < stream.max_viewers:
            return False
        return not self._viewers.is_present(stream.id, viewer=request.owner)

    def _seen(self, stream: Stream, request: IngestRequest) -> Decision:
        # Redis counts viewers, it does not admit them: without it they are not counted.
        self._viewers.heartbeat(stream.id, viewer=request.owner)
        return _about(stream, allow=True, reason="the stream may be watched")

    # Recordings

    def _record_done(self, request: IngestRequest) -> Decision:
        if request.file_path is None:
            raise ValidationError("the hook names no file", field="path")
        with self._database.read() as work:
            stream_id = self._stream_id(work, request)
        if stream_id is None:
            return Decision(allow=False, reason="no stream belongs to the recording")
        # Read outside of any transaction: it takes as long as the file is large.
        found = self._recordings.inspect(request.file_path)
        written_at = _last_written(found.path)

        def add(work: UnitOfWork) -> Decision:
            session = _session_at(work, stream_id, written_at)
            if session is None:
                return Decision(allow=False, reason="no broadcast belongs to the recording")
            self._recordings.add_file(
                work, stream_session_id=session.id, path=found.path, file=found
            )
            reason = "the recording is registered"
            return Decision(allow=True, reason=reason, stream_id=session.stream_id)

        return self._database.run(add)


def _public_stream(work: UnitOfWork, request: IngestRequest) -> Stream | None:
    public_id = request.public_uuid
    return None if public_id is None else work.streams.get_by_public_id(public_id)


def _session_at(work: UnitOfWork, stream_id: int, written_at: datetime) -> StreamSession | None:
    """Return the broadcast that was on the air when a recording was last written.

    The hook may come after that broadcast ended and the next one began. Where the clocks of the
    database and of the file system agree on nothing, it is the latest broadcast.
    """
    before = work.stream_sessions.list_by_stream(stream_id, before=written_at, limit=1)
    return before[0] if before else work.stream_sessions.get_latest(stream_id)


def _last_written(path: Path) -> datetime:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError as error:
        raise ValidationError(f"{path} was deleted meanwhile", field="path") from error


def _about(stream: Stream, *, allow: bool, reason: str) -> Decision:
    return Decision(allow=allow, reason=reason, stream_id=stream.id, public_id=stream.public_id)
