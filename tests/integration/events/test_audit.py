"""Audit: who did what, from where, on whose behalf, whichever service recorded it."""

from __future__ import annotations

import threading
import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest

from rootstream_db.audit import acting, current_audit_context
from rootstream_db.errors import ConflictError, ValidationError

REQUEST: dict[str, Any] = {
    "ip_address": "192.0.2.7",
    "user_agent": "Browser/1",
    "request_id": "req-1",
}


def test_events_say_who_acted_from_where_and_for_whom(database, events):
    with acting(**REQUEST), acting(user_id=1, on_behalf_of=2), database.transaction() as work:
        events.append(work, "Stream", "7", "Renamed", {}, user_id=3, metadata={"old": "x"})
    (event,) = events.audit_trail(1)
    audit = REQUEST | {"on_behalf_of": 2, "owner_user_id": 3}
    assert {"old": "x", "audit": audit} == event.metadata
    assert [] == list(events.audit_trail(3))


def test_outside_a_context_nothing_is_added(database, events):
    with database.transaction() as work:
        events.append(work, "Stream", "7", "Renamed", {}, user_id=3)
    assert [{}] == [event.metadata for event in events.audit_trail(3)]


def test_a_request_nobody_logged_in_for_keeps_the_owner(database, events):
    with acting(ip_address="2001:DB8::1"), database.transaction() as work:
        events.append(work, "Stream", "7", "Started", {}, user_id=3)
    (event,) = events.audit_trail(3)
    assert {"audit": {"ip_address": "2001:db8::1"}} == event.metadata


def test_every_change_of_the_services_carries_the_context(rootstream):
    with acting(user_id=99, **REQUEST):
        with rootstream.transaction() as work:
            alice = rootstream.accounts.register(
                work, username="alice", email="a@example.com", password="correct horse battery"
            )
            _, key = rootstream.streams.create(work, owner=alice, name="Run")
            rootstream.accounts.update_profile(work, alice, display_name="Alice")
            rootstream.billing.open_account(work, alice)
        lease = rootstream.streams.start(key, node="n")
        rootstream.streams.stop(lease)
        with rootstream.transaction() as work:
            rootstream.accounts.deactivate(work, alice)
    recorded = list(rootstream.events.read_all())
    assert {"User", "Stream"} == {event.aggregate_type for event in recorded}
    assert [REQUEST | {"owner_user_id": alice.id}] * len(recorded) == [
        event.metadata["audit"] for event in recorded
    ]
    assert recorded == list(rootstream.events.audit_trail(99, batch=2))


def test_the_trail_is_complete_between_two_times(committed_database, clock):
    from rootstream_db.services.event_store import EventStore

    events = EventStore(committed_database, clock=clock)
    for number in range(6):
        with acting(user_id=1 + number % 2), committed_database.transaction() as work:
            events.append(work, "Stream", "7", "AB"[number // 3], {"n": number})
    mine = list(events.audit_trail(1))
    assert [0, 2, 4] == [event.data["n"] for event in mine]
    times = [event.recorded_at for event in mine]
    assert mine[1:] == list(events.audit_trail(1, since=times[1], batch=1))
    assert mine[:2] == list(events.audit_trail(1, until=times[2], batch=1))
    assert mine[1:2] == list(events.audit_trail(1, since=times[1], until=times[2]))
    assert mine[2:] == list(events.audit_trail(1, types={"B"}))
    assert [] == list(events.audit_trail(1, since=times[2] + timedelta(seconds=1)))


def test_times_without_a_zone_are_refused(events):
    with pytest.raises(ValidationError, match="since is a naive datetime"):
        events.audit_trail(1, since=datetime(2026, 1, 1))  # noqa: DTZ001 - that is the mistake


def test_a_retry_from_elsewhere_is_still_the_same_event(database, events):
    event_id = uuid.uuid4()

    def say(address: str, **metadata) -> bool:
        with acting(user_id=1, ip_address=address), database.transaction() as work:
            said = events.append(
                work, "Poll", "1", "Voted", {}, event_id=event_id, metadata=metadata
            )
        return bool(said.duplicate)

    assert not say("192.0.2.1")
    assert say("192.0.2.2")
    with pytest.raises(ConflictError):
        say("192.0.2.1", other="content")
    assert ["192.0.2.1"] == [
        event.metadata["audit"]["ip_address"] for event in events.audit_trail(1)
    ]


def test_what_clients_say_about_themselves_cannot_spoil_an_event(database, events):
    hostile = "a\0b\ud800\n" + "x" * 1000
    request = acting(user_id=1, user_agent=hostile, request_id="\x1b[2J")
    with request, database.transaction() as work:
        events.append(work, "Poll", "1", "Voted", {})
    (event,) = events.audit_trail(1)
    assert {"user_agent": "a�b��" + "x" * 395, "request_id": "�[2J"} == event.metadata["audit"]


def test_an_address_that_is_none_is_refused():
    with pytest.raises(ValidationError, match="no IP address"), acting(ip_address="nowhere"):
        pass


def test_a_context_ends_with_its_block_and_stays_in_its_thread():
    seen = []
    with acting(user_id=1):
        thread = threading.Thread(target=lambda: seen.append(current_audit_context()))
        thread.start()
        thread.join()
        here = current_audit_context()
        assert here is not None
        assert 1 == here.user_id
    assert [None] == seen
    assert current_audit_context() is None
