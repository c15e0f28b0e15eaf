"""Viewers: who may watch, and who is counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import SecretStr

from rootstream_db.models import Stream
from rootstream_db.rootstream import RootStream
from rootstream_db.services.ingest import Decision, HookEvent, IngestRequest
from rootstream_db.settings import RedisSettings
from rootstream_db.testing import FrozenClock
from tests.factories import make_stream

PRESENT = 45


@dataclass
class Site:
    """One stream and what a media server says about its viewers."""

    rs: RootStream
    stream: Stream

    def ask(
        self, event: HookEvent, viewer: str = "v1", *, public_id: str | None = None
    ) -> Decision:
        name = str(self.stream.public_id) if public_id is None else public_id
        return self.rs.ingest.authorize(
            IngestRequest(event=event, node="edge-1", connection_id=viewer, public_id=name)
        )

    @property
    def count(self) -> int:
        return self.rs.viewers.count(self.stream.id)


def site_with(rs: RootStream, **config: Any) -> Site:
    with rs.transaction() as work:
        return Site(rs, make_stream(work, **config))


@pytest.mark.parametrize("visibility", ["public", "unlisted"])
def test_who_knows_the_public_id_may_watch_and_is_counted(rootstream: RootStream, visibility: str):
    site = site_with(rootstream, visibility=visibility)

    decision = site.ask(HookEvent.PLAY)

    assert (True, site.stream.id) == (decision.allow, decision.stream_id)
    assert 1 == site.count


@pytest.mark.parametrize("event", [HookEvent.PLAY, HookEvent.WATCH, HookEvent.PLAYBACK])
def test_a_private_stream_is_not_shown(rootstream: RootStream, event: HookEvent):
    site = site_with(rootstream, visibility="private")

    decision = site.ask(event)

    assert (False, "the stream is private") == (decision.allow, decision.reason)
    assert 0 == site.count


@pytest.mark.parametrize("name", ["", "rsk_key", "3d9e5a3a-52c4-4f0e-8d7b-0a3bb0a8f6aa"])
@pytest.mark.parametrize("event", [HookEvent.PLAY, HookEvent.WATCH, HookEvent.PLAYBACK])
def test_other_names_are_refused(rootstream: RootStream, name: str, event: HookEvent):
    site = site_with(rootstream)

    assert not site.ask(event, public_id=name).allow


def test_a_viewer_who_asks_twice_is_one(rootstream: RootStream):
    site = site_with(rootstream)

    site.ask(HookEvent.PLAY)
    site.ask(HookEvent.PLAY)

    assert 1 == site.count


def test_signs_of_life_keep_a_viewer_counted(rootstream: RootStream, clock: FrozenClock):
    site = site_with(rootstream)
    for viewer in ("stays", "silent"):
        site.ask(HookEvent.PLAY, viewer)
    for _ in range(3):
        clock.advance(PRESENT - 5)
        assert site.ask(HookEvent.WATCH, "stays").allow

    assert 1 == site.count


def test_who_leaves_is_not_counted(rootstream: RootStream):
    site = site_with(rootstream)
    site.ask(HookEvent.PLAY)

    assert site.ask(HookEvent.PLAY_DONE).allow
    assert site.ask(HookEvent.PLAY_DONE).allow
    assert 0 == site.count


def test_leaving_what_does_not_exist_changes_nothing(rootstream: RootStream):
    assert site_with(rootstream).ask(HookEvent.PLAY_DONE, public_id="gone").allow


def test_a_full_stream_refuses_newcomers_and_keeps_those_who_are_there(rootstream: RootStream):
    site = site_with(rootstream, max_viewers=2)
    for viewer in ("v1", "v2"):
        assert site.ask(HookEvent.PLAY, viewer).allow

    refused = site.ask(HookEvent.PLAY, "v3")
    assert (False, "all 2 places are taken") == (refused.allow, refused.reason)
    assert site.ask(HookEvent.PLAY, "v1").allow
    assert site.ask(HookEvent.WATCH, "v2").allow
    assert 2 == site.count

    site.ask(HookEvent.PLAY_DONE, "v1")
    assert site.ask(HookEvent.PLAY, "v3").allow


def test_asking_for_recordings_counts_nobody(rootstream: RootStream):
    site = site_with(rootstream)

    assert site.ask(HookEvent.PLAYBACK).allow
    assert 0 == site.count


def test_without_redis_viewers_watch_uncounted(rootstream: RootStream):
    site = site_with(rootstream, max_viewers=1)
    redis = RedisSettings(url=SecretStr("redis://127.0.0.1:1"), retries=0, connect_timeout=0.1)
    settings = rootstream.settings.model_copy(update={"redis": redis})
    with RootStream(settings, clock=rootstream.clock) as without:
        alone = Site(without, site.stream)

        assert alone.ask(HookEvent.PLAY).allow
        assert alone.ask(HookEvent.WATCH).allow
        assert alone.ask(HookEvent.PLAY_DONE).allow
