"""Finished recordings: which broadcast a file belongs to, and what is read from it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from datetime import timedelta
from pathlib import Path

import imageio_ffmpeg
import pytest

from rootstream_db.errors import ConfigurationError
from rootstream_db.models import Recording, Stream
from rootstream_db.rootstream import RootStream
from rootstream_db.security.tokens import SecretText, TokenKind
from rootstream_db.services.ingest import Decision, HookEvent, IngestRequest
from rootstream_db.services.ingest.backlog import Backlog
from rootstream_db.services.ingest.missed import SETTLED, MissedRecordings
from rootstream_db.services.recordings import RecordedFile
from rootstream_db.testing import FrozenClock
from tests.factories import MINT, make_user

SECOND = timedelta(seconds=1)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second of video as nginx-rtmp would record it."""
    path = tmp_path_factory.mktemp("film") / "film.flv"
    source = ["-f", "lavfi", "-i", "testsrc=size=64x48:rate=10:duration=1"]
    encoder = ["-c:v", "libx264", "-preset", "ultrafast", "-f", "flv", str(path)]
    program = imageio_ffmpeg.get_ffmpeg_exe()
    subprocess.run([program, "-v", "error", *source, *encoder], check=True, timeout=60)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def rs(rootstream: RootStream, folder: Path, clock: FrozenClock) -> RootStream:
    """The data layer, told where recordings are."""
    ingest = rootstream.settings.ingest.model_copy(update={"recordings_directory": folder})
    rootstream.settings = rootstream.settings.model_copy(update={"ingest": ingest})
    return rootstream


@pytest.fixture
def channel(rs: RootStream) -> tuple[Stream, SecretText]:
    with rs.transaction() as work:
        return rs.streams.create(work, owner=make_user(work), name="Speedrun")


def hook(
    path: Path | str | None, *, key: SecretText | None = None, public_id: str | None = None
) -> IngestRequest:
    return IngestRequest(
        event=HookEvent.RECORD_DONE,
        node="edge-1",
        connection_id="17",
        key=key,
        public_id=public_id,
        file_path=None if path is None else str(path),
    )


def put(film: Path, folder: Path, name: str, clock: FrozenClock) -> Path:
    """Write a recording that was finished now."""
    path = folder / name
    path.write_bytes(film.read_bytes())
    os.utime(path, (clock().timestamp(), clock().timestamp()))
    return path


def registered(rs: RootStream, stream: Stream) -> list[Recording]:
    with rs.database.read() as work:
        return list(work.recordings.list_by_stream(stream.id))


@pytest.mark.parametrize("named_by", ["key", "path"])
def test_a_recording_is_what_its_file_is(
    rs: RootStream,
    channel: tuple[Stream, SecretText],
    film: Path,
    folder: Path,
    clock: FrozenClock,
    named_by: str,
):
    stream, key = channel
    lease = rs.streams.start(key, node="edge-1", connection_id="17")
    clock.advance(5)
    path = put(film, folder, "a.flv", clock)

    named = {"key": key} if named_by == "key" else {"public_id": str(stream.public_id)}
    decision = rs.ingest.authorize(hook(path, **named))

    assert (True, stream.id) == (decision.allow, decision.stream_id)
    (row,) = registered(rs, stream)
    assert (str(path), len(film.read_bytes())) == (row.file_path, row.size_bytes)
    assert hashlib.sha256(film.read_bytes()).digest() == row.sha256
    assert lease.stream_session_id == row.stream_session_id


def test_a_recording_reported_twice_is_one(
    rs: RootStream,
    channel: tuple[Stream, SecretText],
    film: Path,
    folder: Path,
    clock: FrozenClock,
):
    stream, key = channel
    rs.streams.start(key, node="edge-1", connection_id="17")
    clock.advance(1)
    path = put(film, folder, "a.flv", clock)

    assert rs.ingest.authorize(hook(path, key=key)).allow
    assert rs.ingest.authorize(hook(path, key=key)).allow
    assert 1 == len(registered(rs, stream))


def test_a_hook_that_comes_late_is_booked_on_the_broadcast_that_was_recorded(
    rs: RootStream,
    channel: tuple[Stream, SecretText],
    film: Path,
    folder: Path,
    clock: FrozenClock,
):
    stream, key = channel
    first = rs.streams.start(key, node="edge-1", connection_id="17")
    clock.advance(5)
    path = put(film, folder, "first.flv", clock)
    rs.streams.stop(first)
    clock.advance(5)
    rs.streams.start(key, node="edge-1", connection_id="18")
    clock.advance(5)

    rs.ingest.authorize(hook(path, key=key))

    assert [first.stream_session_id] == [r.stream_session_id for r in registered(rs, stream)]


def test_a_file_older_than_every_broadcast_is_booked_on_the_latest(
    rs: RootStream,
    channel: tuple[Stream, SecretText],
    film: Path,
    folder: Path,
    clock: FrozenClock,
):
    """Clocks that disagree must not lose a recording."""
    stream, key = channel
    path = put(film, folder, "a.flv", clock)
    clock.advance(5)
    lease = rs.streams.start(key, node="edge-1", connection_id="17")

    rs.ingest.authorize(hook(path, key=key))

    assert [lease.stream_session_id] == [r.stream_session_id for r in registered(rs, stream)]


def test_a_recording_of_nothing_that_is_known_is_refused(
    rs: RootStream,
    channel: tuple[Stream, SecretText],
    film: Path,
    folder: Path,
    clock: FrozenClock,
):
    stream, key = channel
    path = put(film, folder, "a.flv", clock)

    for request in (
        hook(path, key=key),  # never live
        hook(path, key=MINT.issue(TokenKind.STREAM_KEY).text),
        hook(path, public_id="3d9e5a3a-52c4-4f0e-8d7b-0a3bb0a8f6aa"),
        hook(path, public_id="no-uuid"),
    ):
        assert not rs.ingest.authorize(request).allow
    assert [] == registered(rs, stream)


@pytest.mark.parametrize("path", [None, "missing.flv", "../secret.flv", "/etc/passwd", "a\nb"])
def test_a_file_that_is_not_there_or_not_ours_is_refused(
    rs: RootStream, channel: tuple[Stream, SecretText], path: str | None
):
    stream, key = channel
    rs.streams.start(key, node="edge-1", connection_id="17")

    decision = rs.ingest.authorize(hook(path, key=key))

    assert not decision.allow
    assert [] == registered(rs, stream)


def test_a_file_of_a_later_broadcast_is_not_booked_twice(
    rs: RootStream,
    channel: tuple[Stream, SecretText],
    film: Path,
    folder: Path,
    clock: FrozenClock,
):
    _, key = channel
    rs.streams.start(key, node="edge-1", connection_id="17")
    clock.advance(1)
    path = put(film, folder, "a.flv", clock)
    rs.ingest.authorize(hook(path, key=key))
    with rs.transaction() as work:
        other, other_key = rs.streams.create(work, owner=make_user(work), name="Other")
    rs.streams.start(other_key, node="edge-1", connection_id="18")

    decision = rs.ingest.authorize(hook(path, key=other_key))

    assert not decision.allow
    assert [] == registered(rs, other)


def test_without_a_recordings_directory_nothing_is_read(rootstream: RootStream, film: Path):
    with rootstream.transaction() as work:
        _, key = rootstream.streams.create(work, owner=make_user(work), name="Speedrun")

    with pytest.raises(ConfigurationError, match="where recordings are"):
        rootstream.ingest.authorize(hook(film, key=key))


def test_a_file_that_vanishes_while_it_is_registered_is_refused(
    rs: RootStream,
    channel: tuple[Stream, SecretText],
    film: Path,
    folder: Path,
    clock: FrozenClock,
    monkeypatch: pytest.MonkeyPatch,
):
    stream, key = channel
    rs.streams.start(key, node="edge-1", connection_id="17")
    path = put(film, folder, "a.flv", clock)
    inspect = rs.recordings.inspect

    def inspect_and_lose(name: str) -> RecordedFile:
        found = inspect(name)
        path.unlink()
        return found

    monkeypatch.setattr(rs.recordings, "inspect", inspect_and_lose)
    decision = rs.ingest.authorize(hook(path, key=key))

    assert not decision.allow
    assert "deleted" in decision.reason
    assert [] == registered(rs, stream)


def test_a_recording_that_no_hook_told_about_is_found_by_its_name(
    rs: RootStream,
    channel: tuple[Stream, SecretText],
    film: Path,
    folder: Path,
    clock: FrozenClock,
):
    stream, key = channel
    lease = rs.streams.start(key, node="edge-1", connection_id="17")
    clock.advance(5)
    (folder / "live" / str(stream.public_id)).mkdir(parents=True)
    told = put(film, folder, f"{stream.public_id}-1795267727.flv", clock)
    rs.ingest.authorize(hook(told, key=key))
    missed = put(film, folder, f"live/{stream.public_id}/2026-01-01_12-00-05.flv", clock)
    put(film, folder, "somebody-elses.flv", clock)
    put(film, folder, "3d9e5a3a-52c4-4f0e-8d7b-0a3bb0a8f6aa.flv", clock)
    search = MissedRecordings(rs.database, folder, clock=clock)

    assert [] == list(search.find()), "files just written may be written on"
    clock.advance(SETTLED)
    requests = list(search.find())
    decisions = [rs.ingest.authorize(request).allow for request in requests]

    assert {missed.name: True, "3d9e5a3a-52c4-4f0e-8d7b-0a3bb0a8f6aa.flv": False} == {
        Path(request.file_path or "").name: allowed
        for request, allowed in zip(requests, decisions, strict=True)
    }
    assert [lease.stream_session_id] * 2 == [r.stream_session_id for r in registered(rs, stream)]
    assert [] == list(search.find()), "each is found once"
    assert [] == list(MissedRecordings(rs.database, None, clock=clock).find())
    assert not search._is_finished(folder / "gone.flv")


def test_the_hook_server_answers_before_the_file_is_read(
    rs: RootStream,
    channel: tuple[Stream, SecretText],
    film: Path,
    folder: Path,
    clock: FrozenClock,
):
    stream, key = channel
    rs.streams.start(key, node="edge-1", connection_id="17")
    clock.advance(1)
    path = put(film, folder, "a.flv", clock)
    reading = threading.Event()

    def slow(request: IngestRequest) -> Decision:
        assert reading.wait(10)
        return rs.ingest.authorize(request)

    with Backlog(slow) as backlog:
        answer = backlog.authorize(hook(path, key=key))
        assert (True, "the recording is queued") == (answer.allow, answer.reason)
        assert [] == registered(rs, stream)
        reading.set()

    assert 1 == len(registered(rs, stream))
