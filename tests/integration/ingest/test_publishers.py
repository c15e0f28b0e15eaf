"""Publishers: one lease a connection, whatever order and number of hooks there is."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest

from rootstream_db.models import EndReason, Stream, StreamSession
from rootstream_db.rootstream import RootStream
from rootstream_db.security.tokens import SecretText, TokenKind
from rootstream_db.services.ingest import Decision, HookEvent, IngestRequest
from rootstream_db.services.streams import Lease
from rootstream_db.testing import FrozenClock
from tests.factories import MINT, make_user

GONE = timedelta(minutes=5)


@dataclass
class Site:
    """One stream, its key, and what a media server says about it."""

    rs: RootStream
    stream: Stream
    key: SecretText

    def ask(
        self,
        event: HookEvent,
        *,
        connection: str = "17",
        key: SecretText | None = None,
        public_id: str | None = None,
        by_path: bool = False,
    ) -> Decision:
        """Send a hook as nginx-rtmp does, with the key, or as MediaMTX does, by the path alone."""
        return self.rs.ingest.authorize(
            IngestRequest(
                event=event,
                node="edge-1",
                connection_id=connection,
                key=None if by_path else key or self.key,
                public_id=str(self.stream.public_id) if by_path else public_id,
                encoder="FMLE/3.0",
                ip_address="203.0.113.9",
            )
        )

    @property
    def sessions(self) -> list[StreamSession]:
        with self.rs.database.read() as work:
            return list(reversed(work.stream_sessions.list_by_stream(self.stream.id)))

    @property
    def is_live(self) -> bool:
        status = self.rs.streams.live_status(self.stream.id)
        assert status is not None
        return status.is_live

    @property
    def history(self) -> list[str]:
        events = self.rs.events.read("Stream", str(self.stream.id))
        return [event.event_type for event in events][2:]  # after its creation and first key


@pytest.fixture
def site(rootstream: RootStream) -> Site:
    with rootstream.transaction() as work:
        owner = make_user(work)
        stream, key = rootstream.streams.create(work, owner=owner, name="Speedrun")
    return Site(rootstream, stream, key)


def test_a_good_key_goes_live(site: Site):
    decision = site.ask(HookEvent.PUBLISH)

    assert decision.allow
    assert (site.stream.id, site.stream.public_id) == (decision.stream_id, decision.public_id)
    assert decision.lease is not None
    assert "edge-1/17" == decision.lease.owner
    assert site.is_live
    assert ["FMLE/3.0"] == [session.encoder for session in site.sessions]


def test_what_a_hook_records_carries_the_address_of_the_connection(site: Site):
    before = site.rs.events.cursor()
    for hook in (HookEvent.PUBLISH, HookEvent.UNPUBLISH):
        site.ask(hook)

    recorded = list(site.rs.events.read_all(after_position=before))
    assert recorded
    told = site.rs.events.personal_of_many(recorded)
    assert {"203.0.113.9"} == {personal["audit"]["ip_address"] for personal in told}
    assert "203.0.113.9" not in str([event.metadata for event in recorded])


def test_the_same_hook_again_gets_the_same_lease(site: Site):
    first = site.ask(HookEvent.PUBLISH)

    assert first == site.ask(HookEvent.PUBLISH)
    assert ["StreamStarted"] == site.history


def test_a_second_publisher_is_refused_while_the_first_is_there(site: Site):
    site.ask(HookEvent.PUBLISH)

    second = site.ask(HookEvent.PUBLISH, connection="18")

    assert not second.allow
    assert "already live from edge-1/17" in second.reason


def wrong_key(site: Site) -> SecretText:
    return MINT.issue(TokenKind.STREAM_KEY).text


def malformed_key(site: Site) -> SecretText:
    return SecretText("not a key \ud800")


def revoked_key(site: Site) -> SecretText:
    with site.rs.transaction() as work:
        row, key = site.rs.streams.issue_key(work, site.stream)
        site.rs.streams.revoke_key(work, row)
    return key


def future_key(site: Site) -> SecretText:
    with site.rs.transaction() as work:
        not_before = work.now + timedelta(hours=1)
        return site.rs.streams.issue_key(work, site.stream, not_before=not_before)[1]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (wrong_key, "unknown"),
        (malformed_key, "unknown"),
        (revoked_key, "revoked"),
        (future_key, "not valid yet"),
    ],
)
def test_a_key_that_may_not_publish_is_refused(
    site: Site, make: Callable[[Site], SecretText], reason: str
):
    key = make(site)

    decision = site.ask(HookEvent.PUBLISH, key=key)

    assert not decision.allow
    assert reason in decision.reason
    assert key not in decision.reason
    assert [] == site.sessions


def test_an_expired_key_cannot_start_but_does_not_end_a_broadcast(site: Site, clock: FrozenClock):
    with site.rs.transaction() as work:
        expires_at = work.now + timedelta(seconds=10)
        _, key = site.rs.streams.issue_key(work, site.stream, expires_at=expires_at)
    site.ask(HookEvent.PUBLISH, key=key)
    clock.advance(10)

    assert site.ask(HookEvent.UPDATE, key=key).allow
    site.ask(HookEvent.UNPUBLISH, key=key)
    refused = site.ask(HookEvent.PUBLISH, key=key)
    assert (False, "the stream key has expired") == (refused.allow, refused.reason)


def test_without_a_key_nobody_publishes(site: Site):
    decision = site.ask(HookEvent.PUBLISH, by_path=True)

    assert (False, "no stream key was presented") == (decision.allow, decision.reason)


def test_a_key_publishes_only_under_its_own_streams_name(site: Site):
    with site.rs.transaction() as work:
        other, _ = site.rs.streams.create(work, owner=make_user(work), name="Other")

    for name in (str(other.public_id), "whatever", str(site.key)):
        assert not site.ask(HookEvent.PUBLISH, public_id=name).allow
    assert [] == site.sessions
    assert site.ask(HookEvent.PUBLISH, public_id=str(site.stream.public_id)).allow


@pytest.mark.parametrize("by_path", [False, True])
def test_updates_keep_a_broadcast_alive(site: Site, clock: FrozenClock, by_path: bool):
    site.ask(HookEvent.PUBLISH)
    for _ in range(5):
        clock.advance(10)
        decision = site.ask(HookEvent.UPDATE, by_path=by_path)
        assert decision.allow

    site.rs.streams.reap()
    assert site.is_live


def test_an_update_of_a_connection_without_a_lease_is_refused(site: Site):
    site.ask(HookEvent.PUBLISH)

    assert not site.ask(HookEvent.UPDATE, connection="18").allow
    assert not site.ask(HookEvent.UPDATE, key=MINT.issue(TokenKind.STREAM_KEY).text).allow
    assert site.is_live


def test_a_publisher_that_never_sent_anything_is_refused_and_ends(site: Site, clock: FrozenClock):
    site.ask(HookEvent.PUBLISH)
    update = IngestRequest(
        event=HookEvent.UPDATE, node="edge-1", connection_id="17", key=site.key, silent=True
    )

    assert not site.rs.ingest.authorize(update).allow
    clock.advance(GONE)
    site.rs.streams.reap()
    assert [EndReason.GRACE_EXPIRED] == [session.end_reason for session in site.sessions]


def test_revoking_the_key_ends_the_broadcast_and_refuses_its_next_update(site: Site):
    site.ask(HookEvent.PUBLISH)
    with site.rs.transaction() as work:
        (row,) = work.stream_keys.list_by_stream(site.stream.id)
        site.rs.streams.revoke_key(work, row)

    assert not site.is_live
    assert not site.ask(HookEvent.UPDATE).allow
    assert not site.ask(HookEvent.PUBLISH).allow
    assert [EndReason.KEY_REVOKED] == [session.end_reason for session in site.sessions]


@pytest.mark.parametrize("by_path", [False, True])
def test_a_publisher_that_leaves_may_come_back_into_the_same_session(site: Site, by_path: bool):
    site.ask(HookEvent.PUBLISH)
    assert site.ask(HookEvent.UNPUBLISH, by_path=by_path).allow
    assert not site.is_live

    again = site.ask(HookEvent.PUBLISH, connection="18")

    assert again.allow
    assert again.lease is not None
    assert again.lease.resumed
    assert [1] == [session.reconnects for session in site.sessions]
    assert ["StreamStarted", "StreamDisconnected", "StreamResumed"] == site.history


def test_a_goodbye_before_the_hello_changes_nothing(site: Site):
    early = site.ask(HookEvent.UNPUBLISH)

    assert early.allow
    assert "ignored" in early.reason
    assert site.ask(HookEvent.PUBLISH).allow
    assert site.is_live


def test_a_goodbye_that_comes_twice_changes_nothing_more(site: Site):
    site.ask(HookEvent.PUBLISH)
    site.ask(HookEvent.UNPUBLISH)

    assert site.ask(HookEvent.UNPUBLISH).allow
    assert ["StreamStarted", "StreamDisconnected"] == site.history


def test_a_late_goodbye_of_an_older_connection_does_not_end_the_newer_one(site: Site):
    site.ask(HookEvent.PUBLISH, connection="17")
    site.ask(HookEvent.UNPUBLISH, connection="17")
    site.ask(HookEvent.PUBLISH, connection="18")

    late = site.ask(HookEvent.UNPUBLISH, connection="17")

    assert late.allow
    assert "ignored" in late.reason
    assert site.is_live


def test_a_late_update_after_the_end_is_refused(site: Site, clock: FrozenClock):
    site.ask(HookEvent.PUBLISH)
    clock.advance(GONE)
    site.rs.streams.reap()

    assert not site.ask(HookEvent.UPDATE).allow
    assert ["StreamStarted", "StreamEnded"] == site.history


def test_an_update_within_the_grace_takes_a_lapsed_lease_back(site: Site, clock: FrozenClock):
    site.ask(HookEvent.PUBLISH)
    clock.advance(20)
    site.rs.streams.reap()
    assert not site.is_live

    assert site.ask(HookEvent.UPDATE).allow
    assert site.is_live


@pytest.mark.parametrize(
    ("event", "call", "allowed"),
    [(HookEvent.UPDATE, "heartbeat", False), (HookEvent.UNPUBLISH, "disconnect", True)],
)
def test_a_hook_that_is_overtaken_while_it_is_decided_changes_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch, event: HookEvent, call: str, allowed: bool
):
    """Another process ends the broadcast, and another connection starts one, in between."""
    site.ask(HookEvent.PUBLISH)
    streams, original = site.rs.streams, getattr(site.rs.streams, call)

    def overtaken(lease: Lease) -> object:
        streams.stop(lease)
        streams.start(site.key, node="edge-2", connection_id="1")
        return original(lease)

    monkeypatch.setattr(streams, call, overtaken)
    decision = site.ask(event)

    assert (allowed, site.stream.id) == (decision.allow, decision.stream_id)
    assert "took over" in decision.reason
    assert site.is_live


def test_nothing_is_remembered_outside_of_the_database(site: Site):
    """Each hook may reach another process, and the one before may be dead."""
    site.ask(HookEvent.PUBLISH)
    with RootStream(site.rs.settings, clock=site.rs.clock) as another:
        elsewhere = Site(another, site.stream, site.key)
        assert elsewhere.ask(HookEvent.UPDATE).allow
        assert elsewhere.ask(HookEvent.UNPUBLISH).allow

    assert not site.is_live


def test_a_stream_that_was_deleted_refuses_what_comes_later(site: Site):
    site.ask(HookEvent.PUBLISH)
    with site.rs.transaction() as work:
        site.rs.streams.delete(work, work.streams.get_one(site.stream.id))

    assert not site.ask(HookEvent.UPDATE).allow
    assert site.ask(HookEvent.UNPUBLISH).allow
    assert not site.ask(HookEvent.PUBLISH).allow


ORDERS = list(
    itertools.permutations([HookEvent.PUBLISH, HookEvent.UPDATE, HookEvent.UNPUBLISH] * 2, 4)
)


def test_in_any_order_and_number_no_hook_leaves_a_stream_live_for_ever(
    site: Site, clock: FrozenClock
):
    for hooks in sorted(set(ORDERS)):
        for event in hooks:
            site.ask(event)
            clock.advance(1)
        clock.advance(GONE)
        site.rs.streams.reap()

        assert not site.is_live, hooks
        assert [] == [session for session in site.sessions if session.ended_at is None], hooks
