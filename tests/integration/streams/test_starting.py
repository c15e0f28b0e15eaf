from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import SecretStr

from rootstream_db.database import Database
from rootstream_db.errors import (
    PermissionDeniedError,
    StreamAlreadyLiveError,
    ValidationError,
)
from rootstream_db.security.tokens import TokenKind
from rootstream_db.services.streams import StreamManager
from rootstream_db.settings import DatabaseSettings, StreamSettings
from rootstream_db.testing import EPOCH
from tests.factories import MINT

TTL = 15
GRACE = 30


class TestStart:
    def test_a_good_key_goes_live(self, streams, key, stream, live_row, session_of):
        lease = streams.start(
            key, node="ingest-1", connection_id="c7", protocol="srt", encoder="OBS\t31"
        )

        assert (stream.id, 1, False) == (lease.stream_id, lease.epoch, lease.resumed)
        assert "ingest-1/c7" == lease.owner
        assert EPOCH + timedelta(seconds=TTL) == lease.expires_at
        live, session = live_row(stream), session_of(lease)
        assert live.is_live
        assert lease.stream_session_id == live.stream_session_id
        assert ("ingest-1", "srt", "OBS 31") == (session.node, session.protocol, session.encoder)
        assert (EPOCH, None) == (session.started_at, session.ended_at)

    def test_a_second_publisher_is_refused_while_the_lease_holds(self, streams, key, clock):
        streams.start(key, node="a", connection_id="1")
        clock.advance(TTL - 0.001)

        with pytest.raises(StreamAlreadyLiveError, match="already live from a/1") as refused:
            streams.start(key, node="b")
        assert "a/1" == refused.value.owner

    def test_the_same_connection_asking_twice_gets_the_same_lease(
        self, streams, key, history, stream
    ):
        first = streams.start(key, node="a", connection_id="1")
        before = len(history(stream))

        assert first == streams.start(key, node="a", connection_id="1")
        assert before == len(history(stream))

    def test_connections_without_an_id_are_never_taken_for_one_another(self, streams, key):
        streams.start(key, node="a")

        with pytest.raises(StreamAlreadyLiveError):
            streams.start(key, node="a")

    @pytest.mark.parametrize(
        "garbage", ["", "hello", "rsk1_" + "a" * 49, "rsv1_" + "0" * 49, "\0" * 54, "ключ", None, 7]
    )
    def test_garbage_is_refused_without_asking_the_database(self, events, cache, bus, garbage):
        settings = DatabaseSettings(url=SecretStr("postgresql://nobody@nowhere.invalid/none"))
        with Database(settings) as unreachable:
            streams = StreamManager(
                unreachable, events, tokens=MINT, cache=cache, bus=bus, settings=StreamSettings()
            )
            with pytest.raises(PermissionDeniedError, match=r"^unknown stream key$"):
                streams.start(garbage, node="a")

    def test_a_key_that_was_never_issued_is_refused_in_the_same_words(self, streams):
        with pytest.raises(PermissionDeniedError, match=r"^unknown stream key$"):
            streams.start(MINT.issue(TokenKind.STREAM_KEY).text, node="a")

    def test_a_revoked_key_is_refused(self, streams, key, stream, database):
        with database.transaction() as work:
            streams.revoke_key(work, work.stream_keys.list_by_stream(stream.id)[0])

        with pytest.raises(PermissionDeniedError, match="was revoked"):
            streams.start(key, node="a")

    def test_a_key_is_refused_before_and_after_its_time(self, streams, stream, database, clock):
        begins, ends = EPOCH + timedelta(hours=1), EPOCH + timedelta(hours=2)
        with database.transaction() as work:
            _, key = streams.issue_key(work, stream, not_before=begins, expires_at=ends)

        with pytest.raises(PermissionDeniedError, match="not valid yet"):
            streams.start(key, node="a")
        clock.advance(timedelta(hours=1))
        streams.stop(streams.start(key, node="a"))
        clock.advance(timedelta(hours=1))
        with pytest.raises(PermissionDeniedError, match="has expired"):
            streams.start(key, node="a")

    def test_a_deactivated_owner_may_not_publish(self, streams, key, owner, database, clock):
        with database.transaction() as work:
            work.users.get_one(owner.id).deactivate(clock())

        with pytest.raises(PermissionDeniedError, match="owner is deactivated"):
            streams.start(key, node="a")

    def test_the_use_of_a_key_is_recorded_and_a_refused_one_is_not(
        self, streams, key, stream, database, clock
    ):
        streams.start(key, node="a")
        clock.advance(1)
        with pytest.raises(StreamAlreadyLiveError):
            streams.start(key, node="b")

        with database.read() as work:
            (stored,) = work.stream_keys.list_by_stream(stream.id)
        assert EPOCH == stored.last_used_at

    @pytest.mark.parametrize(
        ("wrong", "field"),
        [
            ({"node": ""}, "node"),
            ({"node": "a" * 201}, "node"),
            ({"node": "a\0b"}, "node"),
            ({"node": "a", "connection_id": ""}, "connection_id"),
            ({"node": "a" * 150, "connection_id": "b" * 150}, "connection_id"),
            ({"node": "a", "protocol": "x" * 21}, "protocol"),
            ({"node": "a", "ip_address": "nowhere"}, "ip_address"),
        ],
    )
    def test_a_connection_described_wrongly_is_refused(self, streams, key, wrong, field):
        with pytest.raises(ValidationError) as refused:
            streams.start(key, **wrong)
        assert field == refused.value.field

    def test_an_encoder_never_fails_a_publisher(self, streams, key, session_of):
        lease = streams.start(key, node="a", encoder="\0\x1b[31m" + "x" * 10_000)

        assert 200 >= len(session_of(lease).encoder)
        assert session_of(lease).encoder.startswith("[31mxxx")


class TestFindLease:
    def test_a_caller_that_remembers_nothing_finds_its_lease(self, streams, key, clock):
        lease = streams.start(key, node="a", connection_id="1")
        found = streams.find_lease(key, node="a", connection_id="1")
        assert lease == found

        clock.advance(TTL)
        assert streams.heartbeat(found) == streams.find_lease(key, node="a", connection_id="1")

    def test_nobody_finds_a_lease_that_is_not_theirs_or_over(self, streams, key, clock):
        streams.start(key, node="a", connection_id="1")

        assert streams.find_lease(key, node="a", connection_id="2") is None
        assert streams.find_lease("garbage", node="a", connection_id="1") is None
        assert (
            streams.find_lease(MINT.issue(TokenKind.STREAM_KEY).text, node="a", connection_id="1")
            is None
        )
        clock.advance(TTL + GRACE)
        assert streams.find_lease(key, node="a", connection_id="1") is None
