from __future__ import annotations

import subprocess

import imageio_ffmpeg
import pytest

from rootstream_db.models import StreamSession
from rootstream_db.services.billing import BillingManager
from rootstream_db.services.event_store import EventStore
from rootstream_db.services.recordings import RecordingManager
from rootstream_db.settings import IngestSettings
from rootstream_db.testing import EPOCH
from tests.factories import make_stream

SECONDS = 2


@pytest.fixture(scope="session")
def media(tmp_path_factory):
    """Two seconds of real video and sound, as the containers that media servers write."""
    folder = tmp_path_factory.mktemp("media")

    def ffmpeg(*arguments):
        program = imageio_ffmpeg.get_ffmpeg_exe()
        command = [program, "-v", "error", "-y", *arguments]
        subprocess.run(command, check=True, cwd=folder, stdin=subprocess.DEVNULL)

    picture = ("-f", "lavfi", "-i", "testsrc=size=320x180:rate=25")
    sound = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100")
    codecs = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-c:a", "aac")
    ffmpeg(*picture, *sound, "-t", str(SECONDS), *codecs, "whole.flv")
    copied = ("-i", "whole.flv", "-c", "copy")
    # As nginx-rtmp leaves it when it dies: no duration in the header.
    ffmpeg(*copied, "-flvflags", "no_duration_filesize", "headless.flv")
    ffmpeg(*copied, "whole.mp4")
    ffmpeg(*copied, "whole.mkv")
    ffmpeg(*copied, "whole.ts")
    ffmpeg(*copied, "-movflags", "+frag_keyframe+empty_moov", "fragments.mp4")
    ffmpeg(*copied, "-vn", "sound.flv")
    return folder


@pytest.fixture
def folder(tmp_path):
    """The recordings directory."""
    path = tmp_path / "recordings"
    path.mkdir()
    return path


@pytest.fixture
def events(database, clock):
    return EventStore(database, clock=clock)


@pytest.fixture
def recordings(events, folder, clock):
    return RecordingManager(events, IngestSettings(recordings_directory=folder), clock=clock)


@pytest.fixture
def billing(events, clock):
    return BillingManager(events, clock=clock)


@pytest.fixture
def stream(work):
    return make_stream(work)


@pytest.fixture
def session(work, stream):
    return work.stream_sessions.add(StreamSession(stream_id=stream.id, started_at=EPOCH))
