from __future__ import annotations

import hashlib
import os
import shutil
import sys
from datetime import timedelta
from decimal import Decimal

import pytest

from rootstream_db.errors import (
    ConfigurationError,
    ConflictError,
    NotFoundError,
    ValidationError,
)
from rootstream_db.models import RecordingStatus, StreamSession, UsageKind
from rootstream_db.services.recordings import RecordingManager
from rootstream_db.settings import IngestSettings
from rootstream_db.testing import EPOCH


@pytest.fixture
def recorded(media, folder):
    """Put a file into the recordings directory."""

    def put(name, to=None):
        return shutil.copy(media / name, folder / (to or name))

    return put


class TestAddFile:
    def test_the_row_says_what_is_in_the_file(
        self, work, recordings, session, stream, recorded, folder
    ):
        path = recorded("whole.flv")

        row = recordings.add_file(work, stream_session_id=session.id, path=path)

        content = (folder / "whole.flv").read_bytes()
        assert (len(content), hashlib.sha256(content).digest()) == (row.size_bytes, row.sha256)
        assert (stream.id, session.id) == (row.stream_id, row.stream_session_id)
        assert RecordingStatus.READY is row.status
        assert ("flv", "h264", "aac") == (row.container, row.video_codec, row.audio_codec)
        assert (320, 180) == (row.width, row.height)
        assert Decimal("2.0") <= row.duration_seconds <= Decimal("2.1")
        assert str(folder.resolve() / "whole.flv") == row.file_path

    @pytest.mark.parametrize(
        ("name", "container"),
        [
            ("headless.flv", "flv"),
            ("whole.mp4", "mp4"),
            ("fragments.mp4", "mp4"),
            ("whole.mkv", "matroska"),
            ("whole.ts", "mpegts"),
        ],
    )
    def test_every_servers_container_is_read(
        self, work, recordings, session, recorded, name, container
    ):
        row = recordings.add_file(work, stream_session_id=session.id, path=recorded(name))

        assert (container, 320, 180) == (row.container, row.width, row.height)
        assert Decimal("2.0") <= row.duration_seconds <= Decimal("2.1")

    def test_a_name_tells_apart_formats_that_share_a_reader(
        self, work, recordings, session, recorded
    ):
        path = recorded("whole.mp4", "renamed.mov")

        row = recordings.add_file(work, stream_session_id=session.id, path=path)

        assert "mov" == row.container

    def test_a_recording_of_sound_alone_has_no_picture(self, work, recordings, session, recorded):
        row = recordings.add_file(work, stream_session_id=session.id, path=recorded("sound.flv"))

        assert (None, None, None) == (row.video_codec, row.width, row.height)
        assert "aac" == row.audio_codec

    @pytest.mark.parametrize("name", ["whole.flv", "fragments.mp4"])
    def test_a_file_that_was_cut_counts_up_to_the_cut(
        self, work, recordings, session, recorded, folder, name
    ):
        path = recorded(name)
        os.truncate(path, (folder / name).stat().st_size * 2 // 3)

        row = recordings.add_file(work, stream_session_id=session.id, path=path)

        assert RecordingStatus.READY is row.status
        assert Decimal("0.5") < row.duration_seconds < Decimal("1.9")

    @pytest.mark.parametrize("name", ["whole.mp4", "noise.flv", "playlist.m3u8"])
    def test_a_file_that_cannot_be_played_is_kept_as_unreadable(
        self, work, recordings, session, recorded, folder, name
    ):
        path = folder / name
        if name == "whole.mp4":
            # An MP4 whose writer died has no index, and without one it is noise.
            recorded(name)
            os.truncate(path, path.stat().st_size // 2)
        elif name == "noise.flv":
            path.write_bytes(hashlib.sha256(b"noise").digest() * 1000)
        else:
            # Playlists lead to other files and addresses: they are never followed.
            path.write_text("#EXTM3U\n#EXTINF:2,\n/etc/hostname\n#EXT-X-ENDLIST\n")

        row = recordings.add_file(work, stream_session_id=session.id, path=path)

        assert RecordingStatus.UNREADABLE is row.status
        assert (None, None) == (row.duration_seconds, row.container)
        assert path.stat().st_size == row.size_bytes

    def test_a_relative_path_is_taken_from_the_recordings_directory(
        self, work, recordings, session, recorded, folder
    ):
        recorded("whole.flv")

        row = recordings.add_file(work, stream_session_id=session.id, path="whole.flv")

        assert str(folder.resolve() / "whole.flv") == row.file_path

    def test_a_large_file_may_be_read_before_the_transaction(
        self, work, recordings, session, recorded
    ):
        file = recordings.inspect(recorded("whole.flv"))

        row = recordings.add_file(work, stream_session_id=session.id, path="whole.flv", file=file)
        assert file.sha256 == row.sha256

    def test_a_file_read_under_another_name_is_refused(self, work, recordings, session, recorded):
        file = recordings.inspect(recorded("whole.flv"))

        with pytest.raises(ValidationError, match="is not the file that was read"):
            recordings.add_file(work, stream_session_id=session.id, path="other.flv", file=file)

    def test_an_unknown_session_is_refused(self, work, recordings, recorded):
        with pytest.raises(NotFoundError):
            recordings.add_file(work, stream_session_id=0, path=recorded("whole.flv"))


class TestPaths:
    def refused(self, work, recordings, session, path):
        with pytest.raises(ValidationError) as refused:
            recordings.add_file(work, stream_session_id=session.id, path=path)
        assert "path" == refused.value.field
        assert "\n" not in str(refused.value)
        return str(refused.value)

    def test_a_missing_file_is_refused(self, work, recordings, session):
        reason = self.refused(work, recordings, session, "missing.flv")
        assert reason.endswith("missing.flv cannot be read: No such file or directory")

    def test_an_empty_file_is_refused(self, work, recordings, session, folder):
        (folder / "empty.flv").touch()
        assert self.refused(work, recordings, session, "empty.flv").endswith("is empty")

    def test_a_directory_is_refused(self, work, recordings, session, folder):
        (folder / "sub").mkdir()
        assert self.refused(work, recordings, session, "sub").endswith("is not a file")

    def test_a_named_pipe_is_refused_instead_of_waited_for(self, work, recordings, session, folder):
        os.mkfifo(folder / "pipe.flv")
        assert self.refused(work, recordings, session, "pipe.flv").endswith("is not a file")

    @pytest.mark.parametrize(
        "path", ["../outside.flv", "sub/../../outside.flv", "/etc/passwd", ".", "..", "/"]
    )
    def test_a_path_out_of_the_directory_is_refused(self, work, recordings, session, folder, path):
        (folder.parent / "outside.flv").write_bytes(b"x")
        reason = self.refused(work, recordings, session, path)
        assert "is not inside the recordings directory" in reason

    @pytest.mark.parametrize("linked", ["outside.flv", "elsewhere"])
    def test_a_link_out_of_the_directory_is_refused(
        self, work, recordings, session, folder, linked
    ):
        elsewhere = folder.parent / "elsewhere"
        elsewhere.mkdir()
        for outside in (folder.parent / "outside.flv", elsewhere / "outside.flv"):
            outside.write_bytes(b"x")
        (folder / "link").symlink_to(folder.parent / linked)
        path = "link" if linked.endswith("flv") else "link/outside.flv"

        reason = self.refused(work, recordings, session, path)
        assert "is not inside the recordings directory" in reason

    def test_a_link_within_the_directory_is_its_target(
        self, work, recordings, session, recorded, folder
    ):
        recorded("whole.flv")
        (folder / "link.flv").symlink_to("whole.flv")

        row = recordings.add_file(work, stream_session_id=session.id, path="link.flv")
        assert str(folder.resolve() / "whole.flv") == row.file_path

    @pytest.mark.parametrize("path", ["", "a\0b.flv", "x" * 5000, "x" * 300])
    def test_a_path_that_no_file_can_have_is_refused(self, work, recordings, session, path):
        assert 500 > len(self.refused(work, recordings, session, path))

    def test_a_circle_of_links_leads_nowhere(self, work, recordings, session, folder):
        (folder / "a").symlink_to("b")
        (folder / "b").symlink_to("a")
        self.refused(work, recordings, session, "a")

    def test_without_a_recordings_directory_no_file_is_read(self, work, events, session, tmp_path):
        manager = RecordingManager(events, IngestSettings())

        with pytest.raises(ConfigurationError, match="say where recordings are") as refused:
            manager.add_file(work, stream_session_id=session.id, path=tmp_path / "a.flv")
        assert "ingest.recordings_directory" == refused.value.setting

    def test_without_pyav_the_error_says_what_to_install(self, recordings, recorded, monkeypatch):
        monkeypatch.setitem(sys.modules, "av", None)

        with pytest.raises(ConfigurationError, match=r"rootstream-db\[ingest\]"):
            recordings.inspect(recorded("whole.flv"))


class TestAgain:
    def test_the_same_file_twice_is_one_recording(
        self, database, recordings, session, recorded, events, stream, work
    ):
        path = recorded("whole.flv")
        first = recordings.add_file(work, stream_session_id=session.id, path=path)
        again = recordings.add_file(work, stream_session_id=session.id, path=path)

        assert first.id == again.id
        events.flush(work)
        assert ["RecordingAdded"] == types_of(events, stream, work)

    def test_a_file_that_grew_is_brought_up_to_date(
        self, recordings, session, recorded, folder, events, stream, work
    ):
        path = recorded("whole.flv")
        whole = (folder / "whole.flv").read_bytes()
        (folder / "whole.flv").write_bytes(whole[: len(whole) // 2])
        half = recordings.add_file(work, stream_session_id=session.id, path=path)
        lasted = half.duration_seconds
        (folder / "whole.flv").write_bytes(whole)

        row = recordings.add_file(work, stream_session_id=session.id, path=path)

        assert (half.id, len(whole)) == (row.id, row.size_bytes)
        assert lasted < row.duration_seconds
        events.flush(work)
        assert ["RecordingAdded", "RecordingUpdated"] == types_of(events, stream, work)

    def test_a_file_of_another_broadcast_is_refused(
        self, recordings, session, stream, recorded, work
    ):
        path = recorded("whole.flv")
        recordings.add_file(work, stream_session_id=session.id, path=path)
        session.ended_at, session.end_reason = EPOCH, "stopped"
        work.session.flush()
        other = work.stream_sessions.add(StreamSession(stream_id=stream.id, started_at=EPOCH))

        with pytest.raises(ConflictError, match="recorded already, for another broadcast"):
            recordings.add_file(work, stream_session_id=other.id, path=path)


class TestRetention:
    @pytest.mark.parametrize(
        ("policy", "days", "expires_at"),
        [
            ("keep", None, None),
            ("keep", 30, EPOCH + timedelta(days=30)),
            ("ephemeral", None, EPOCH + timedelta(days=7)),
            ("ephemeral", 1, EPOCH + timedelta(days=1)),
            ("none", None, EPOCH),
        ],
    )
    def test_the_streams_policy_says_how_long_a_recording_stays(
        self, work, recordings, session, stream, recorded, policy, days, expires_at
    ):
        stream.record_policy, stream.record_keep_days = type(stream.record_policy)(policy), days
        work.session.flush()

        row = recordings.add_file(work, stream_session_id=session.id, path=recorded("whole.flv"))

        assert expires_at == row.expires_at

    def test_what_expired_is_deleted_and_its_row_says_so(
        self, database, recordings, session, stream, recorded, folder, clock, events, work
    ):
        stream.record_keep_days = 1
        rows = [
            recordings.add_file(
                work, stream_session_id=session.id, path=recorded("whole.flv", f"{number}.flv")
            )
            for number in range(3)
        ]
        clock.advance(timedelta(days=1))
        with database.transaction() as later:
            assert 2 == len(recordings.delete_expired(later, limit=2))
        with database.transaction() as later:
            assert 1 == len(recordings.delete_expired(later, limit=2))
            assert [] == recordings.delete_expired(later)

        assert [] == list(folder.iterdir())
        with database.read() as later:
            stored = later.recordings.list_by_session(session.id)
            assert {RecordingStatus.DELETED} == {row.status for row in stored}
            assert [row.id for row in rows] == [row.id for row in stored]
        assert 3 == types_of(events, stream, work).count("RecordingDeleted")

    def test_deleting_twice_or_a_file_that_is_gone_is_fine(
        self, work, recordings, session, recorded, folder
    ):
        row = recordings.add_file(work, stream_session_id=session.id, path=recorded("whole.flv"))
        (folder / "whole.flv").unlink()

        recordings.delete(work, row)
        recordings.delete(work, row)

        assert RecordingStatus.DELETED is row.status

    def test_a_file_that_cannot_be_deleted_keeps_its_row(
        self, work, recordings, session, recorded, folder
    ):
        row = recordings.add_file(work, stream_session_id=session.id, path=recorded("whole.flv"))
        (folder / "whole.flv").unlink()
        (folder / "whole.flv").mkdir()

        with pytest.raises(ValidationError, match="cannot be deleted"):
            recordings.delete(work, row)
        assert RecordingStatus.READY is row.status


def test_a_recording_is_metered_once_and_for_what_it_grew_by(
    work, recordings, billing, session, stream, recorded, folder, clock
):
    account = billing.open_account(work, work.users.get_one(stream.owner_id))
    path = recorded("whole.flv")
    size = (folder / "whole.flv").stat().st_size
    for _ in range(2):
        recordings.add_file(work, stream_session_id=session.id, path=path)
    with (folder / "whole.flv").open("ab") as file:
        file.write(b"\0" * 100)
    recordings.add_file(work, stream_session_id=session.id, path=path)

    usage = billing.usage(work, account, EPOCH, clock.advance(1))
    assert size + 100 == usage[UsageKind.RECORDING_BYTES]


def test_recordings_of_a_stream_are_listed_latest_first(
    work, recordings, session, stream, recorded
):
    ids = [
        recordings.add_file(
            work, stream_session_id=session.id, path=recorded("whole.flv", f"{number}.flv")
        ).id
        for number in range(3)
    ]

    rows = work.recordings.list_by_stream(stream.id, limit=2)
    assert ids[:0:-1] == [row.id for row in rows]
    assert [] == work.recordings.list_by_stream(stream.id, before=rows[0].created_at)


def types_of(events, stream, work):
    return [event.event_type for event in events.read("Stream", str(stream.id), work=work)]
