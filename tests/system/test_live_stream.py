"""A real RTMP stream: ffmpeg pushes through Debian's nginx-rtmp, hooks reach the real hook server.

nginx runs with docs/examples/nginx-rtmp.conf, on loopback, in a folder of the test's own. Lease
and grace are a second each, so that what must not stay live is seen to end.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rootstream_db.models import EndReason
from rootstream_db.security.tokens import TokenKind
from rootstream_db.services.event_store import RecordedEvent
from rootstream_db.testing import ThrowawayServers
from tests.factories import MINT
from tests.fixtures.servers import WORKER, clone
from tests.system.live_site import NGINX, SERVE, Channel, ProxiedSite, Site, eventually

ENDING = ("reconnects", "reason", "views", "ended_at")
NGINX_DEFAULT_LOG = Path("/var/log/nginx/access.log")
MODULE = Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")

pytestmark = [
    pytest.mark.media,
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed"),
    pytest.mark.skipif(not MODULE.exists(), reason="libnginx-mod-rtmp is not installed"),
]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    # Not below pytest's folders: nginx's worker may be another user and must get in.
    path = Path(tempfile.mkdtemp(prefix="rs-live-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def site(
    folder: Path, servers: ThrowawayServers, template: str, worker_redis_url: str
) -> Iterator[Site]:
    # A database of its own: the hook server writes whenever it likes, also while others clean up.
    site = Site(folder, clone(servers, template, f"live_{WORKER}"), worker_redis_url)
    yield site
    site.close()


@pytest.fixture
def channel(site: Site) -> Iterator[Channel]:
    if site.hooks.ended:
        site.hooks = site.start_hooks()
    yield Channel(site)
    site.dismiss_clients()


def test_no_log_of_the_media_server_holds_the_key(site: Site, channel: Channel):
    encoder = site.publish(channel.key, seconds=1)
    channel.wait_live()
    eventually(lambda: encoder.ended, "the encoder is done")
    channel.wait_over()

    # The last one is where nginx writes unless it is told otherwise.
    logs = [*site.folder.glob("*.log"), site.folder / "early", NGINX_DEFAULT_LOG]
    readable = [log for log in logs if os.access(log, os.R_OK)]
    assert [] == [log.name for log in readable if str(channel.key) in log.read_text()]


def test_a_good_key_goes_live_is_watched_recorded_and_ends(site: Site, channel: Channel):
    encoder = site.publish(channel.key, seconds=3)
    channel.wait_live()
    first_lease = channel.lease_end
    viewer = site.watch(str(channel.stream.public_id))

    eventually(lambda: site.rs.viewers.count(channel.stream.id) == 1, "the viewer is counted")
    eventually(lambda: channel.lease_end > first_lease, "a heartbeat renews the lease")
    second_lease = channel.lease_end
    eventually(lambda: channel.lease_end > second_lease, "so does the next")
    eventually(lambda: viewer.ended, "the viewer has seen enough")
    eventually(lambda: site.rs.viewers.count(channel.stream.id) == 0, "nobody is counted")
    eventually(lambda: encoder.ended, "the encoder is done")
    assert (0, 0) == (encoder.process.returncode, viewer.process.returncode)
    eventually(lambda: channel.recordings, "the recording is registered")
    channel.wait_over()

    the_recording_is_what_its_file_is(site, channel)
    every_step_is_an_event_and_the_events_add_up(channel)


def the_recording_is_what_its_file_is(site: Site, channel: Channel) -> None:
    (recording,) = channel.recordings
    (file,) = site.recordings.glob(f"{channel.stream.public_id}-*.flv")
    content = file.read_bytes()
    assert (str(file.resolve()), len(content)) == (recording.file_path, recording.size_bytes)
    assert hashlib.sha256(content).digest() == recording.sha256
    codecs = (recording.video_codec, recording.audio_codec)
    assert (("h264", "aac"), (64, 48)) == (codecs, (recording.width, recording.height))
    assert recording.duration_seconds is not None
    assert 2.0 < recording.duration_seconds < 4.0
    assert [recording.stream_session_id] == [session.id for session in channel.sessions]


def every_step_is_an_event_and_the_events_add_up(channel: Channel) -> None:
    steps = [event.event_type for event in channel.history]
    assert "StreamStarted" == steps[0]
    assert {"StreamDisconnected", "RecordingAdded"} == set(steps[1:-1])
    assert "StreamEnded" == steps[-1]

    nothing: dict[str, Any] = {}
    replayed = channel.rs.events.replay("Stream", str(channel.stream.id), add_up, nothing).state
    (session,) = channel.sessions
    assert session.ended_at is not None
    assert {
        "recorded": sum(recording.size_bytes for recording in channel.recordings),
        "reconnects": session.reconnects,
        "reason": EndReason.GRACE_EXPIRED,
        "views": session.views,
        "ended_at": session.ended_at.isoformat(),
    } == replayed


def add_up(totals: dict[str, Any], event: RecordedEvent) -> dict[str, Any]:
    match event.event_type:
        case "RecordingAdded":
            recorded = totals.get("recorded", 0) + event.data["size_bytes"]
            return {**totals, "recorded": recorded}
        case "StreamEnded":
            return {**totals, **{name: event.data[name] for name in ENDING}}
    return totals


def wrong(channel: Channel) -> str:
    return MINT.issue(TokenKind.STREAM_KEY).text


def revoked(channel: Channel) -> str:
    with channel.rs.transaction() as work:
        row, key = channel.rs.streams.issue_key(work, channel.stream)
        channel.rs.streams.revoke_key(work, row)
    return key


def expired(channel: Channel) -> str:
    with channel.rs.transaction() as work:
        expires_at = work.now + timedelta(milliseconds=200)
        row, key = channel.rs.streams.issue_key(work, channel.stream, expires_at=expires_at)
    eventually(lambda: row.refusal(channel.rs.clock()), "the key expires")
    return key


def public_id(channel: Channel) -> str:
    return str(channel.stream.public_id)


@pytest.mark.parametrize("make", [wrong, revoked, expired, public_id])
def test_a_bad_key_is_refused_before_a_byte_is_stored(
    site: Site,
    channel: Channel,
    make: Callable[[Channel], str],
):
    files = set(site.recordings.iterdir())
    encoder = site.publish(make(channel))

    eventually(lambda: encoder.ended, "the encoder is thrown out")
    assert 0 != encoder.process.returncode
    assert files == set(site.recordings.iterdir())
    assert [] == channel.sessions


def test_viewers_cannot_use_the_key_and_do_not_learn_it(site: Site, channel: Channel):
    site.publish(channel.key)
    channel.wait_live()

    by_key = site.watch(channel.key)
    eventually(lambda: by_key.ended, "a viewer who knows the key is refused")
    by_public_id = site.watch(str(channel.stream.public_id))
    eventually(lambda: by_public_id.ended, "a viewer who knows the public id watches")

    assert (True, 0) == (0 != by_key.process.returncode, by_public_id.process.returncode)
    for log in ("hooks.log", "nginx-error.log", "nginx.log"):
        assert channel.key not in site.log(log)
    assert [] == [file for file in site.recordings.iterdir() if channel.key in file.name]


def test_a_private_stream_is_not_shown(site: Site, channel: Channel):
    with site.rs.transaction() as work:
        stream = work.streams.get_one(channel.stream.id)
        site.rs.streams.update(work, stream, visibility="private")
    site.publish(channel.key)
    channel.wait_live()

    viewer = site.watch(str(channel.stream.public_id))

    eventually(lambda: viewer.ended, "the viewer is refused")
    assert 0 != viewer.process.returncode


def test_a_client_cannot_pass_for_another_by_what_it_appends(site: Site, channel: Channel):
    site.publish(f"{channel.key}?addr=10.0.0.1&clientid=4711&call=publish_done&node=evil")
    channel.wait_live()

    with site.rs.database.read() as work:
        live = work.stream_live.get_one(channel.stream.id)
    assert live.lease_owner is not None
    assert re.fullmatch(r"edge-1/\d+", live.lease_owner)
    assert "edge-1/4711" != live.lease_owner
    assert "127.0.0.1" == site.rs.events.personal_of(channel.history[0])["ip_address"]


def test_revoking_the_key_ends_the_broadcast_at_the_media_server_too(site: Site, channel: Channel):
    encoder = site.publish(channel.key)
    channel.wait_live()

    with site.rs.transaction() as work:
        (row,) = work.stream_keys.list_by_stream(channel.stream.id)
        site.rs.streams.revoke_key(work, row)

    eventually(lambda: encoder.ended, "nginx closes the connection")
    assert channel.is_offline()
    assert [EndReason.KEY_REVOKED] == [session.end_reason for session in channel.sessions]


def test_a_killed_encoder_may_come_back_and_is_over_if_it_does_not(site: Site, channel: Channel):
    encoder = site.publish(channel.key)
    channel.wait_live()
    encoder.kill()
    eventually(lambda: not channel.is_live(), "the stream waits for its publisher")

    again = site.publish(channel.key)
    channel.wait_live()
    again.kill()
    channel.wait_over()

    assert [(1, EndReason.GRACE_EXPIRED)] == [
        (session.reconnects, session.end_reason) for session in channel.sessions
    ]


def test_a_frozen_encoder_does_not_stay_live(site: Site, channel: Channel):
    """Its connection stays open and nginx goes on sending updates, for a while."""
    encoder = site.publish(channel.key)
    channel.wait_live()
    eventually(lambda: channel.recorded > 1000, "something is recorded")
    encoder.process.send_signal(signal.SIGSTOP)

    channel.wait_over()


@pytest.mark.parametrize("moment", [0.0, 0.3])
def test_a_killed_hook_server_leaves_nothing_live(site: Site, channel: Channel, moment: float):
    """At the start, between and during heartbeats; the encoder goes on for as long as it may."""
    encoder = site.publish(channel.key)
    if moment:
        channel.wait_live()
        started = time.monotonic()
        eventually(lambda: time.monotonic() > started + moment, "its moment")
    site.hooks.kill()

    eventually(lambda: encoder.ended, "without an answer nginx throws the encoder out")
    site.hooks = site.start_hooks()
    channel.wait_over()

    encoder = site.publish(channel.key)
    channel.wait_live()
    assert not encoder.ended


def test_encoder_and_hook_server_killed_together_leave_nothing_live(site: Site, channel: Channel):
    encoder = site.publish(channel.key)
    channel.wait_live()
    site.hooks.kill()
    encoder.kill()

    site.hooks = site.start_hooks()

    channel.wait_over()
    assert [EndReason.GRACE_EXPIRED] == [session.end_reason for session in channel.sessions]


def test_behind_a_proxy_one_of_two_hook_servers_may_die(
    folder: Path, servers: ThrowawayServers, template: str, worker_redis_url: str
):
    """The example of the how-to page; the token travels in a header, the new name comes back."""
    below = folder / "proxied"
    below.mkdir(mode=0o755)
    url = clone(servers, template, f"live_proxied_{WORKER}")
    with closing(ProxiedSite(below, url, worker_redis_url)) as site:
        site.start_second()
        channel = Channel(site)
        encoder = site.publish(channel.key)
        channel.wait_live()
        site.hooks.kill()

        for _ in range(3):
            lease_end = channel.lease_end
            eventually(functools.partial(renewed, channel, lease_end), "the other one answers")
        assert not encoder.ended
        assert channel.is_live()
        assert [0] == [session.reconnects for session in channel.sessions]
        assert [] != list(site.recordings.glob(f"{channel.stream.public_id}-*.flv"))


def renewed(channel: Channel, lease_end: datetime) -> bool:
    return channel.lease_end > lease_end


def test_two_hook_servers_cannot_have_one_port_and_the_first_stops_when_asked(
    site: Site, channel: Channel
):
    second = subprocess.run(
        [*SERVE, "--port", str(site.hook_port)],
        env={**os.environ, **site.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    taken = r"error: cannot listen on 127\.0\.0\.1:\d+: Address already in use"
    assert 78 == second.returncode
    assert re.fullmatch(taken, second.stderr.splitlines()[-1])
    assert 0 == site.hooks.stop(), site.log("hooks.log")
