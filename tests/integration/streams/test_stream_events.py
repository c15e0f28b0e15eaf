from __future__ import annotations

from decimal import Decimal

import pytest

from rootstream_db.errors import StreamAlreadyLiveError
from rootstream_db.models import UsageKind
from rootstream_db.services.event_store import EventStore
from rootstream_db.testing import EPOCH


def test_every_step_of_a_stream_is_an_event_of_its_owner(
    database, streams, stream, key, owner, clock, history
):
    lease = streams.start(key, node="a", connection_id="1", ip_address="192.0.2.7")
    streams.disconnect(lease)
    clock.advance(5)
    lease = streams.start(key, node="b", connection_id="2")
    clock.advance(10)
    streams.stop(lease, bytes_in=7500)

    events = history(stream)
    assert [
        "StreamCreated",
        "StreamKeyIssued",
        "StreamStarted",
        "StreamDisconnected",
        "StreamResumed",
        "StreamEnded",
    ] == [event.event_type for event in events]
    assert {owner.id} == {event.user_id for event in events}
    started, disconnected, resumed, ended = (event.data for event in events[2:])
    assert ("a/1", 1, "rtmp") == (started["owner"], started["epoch"], started["protocol"])
    assert owner.public_id == events[2].subject_id
    store = EventStore(database, clock=clock)
    assert {"ip_address": "192.0.2.7"} == store.personal_of(events[2])
    assert "192.0.2.7" not in str((events[2].data, events[2].metadata))
    assert "connection_closed" == disconnected["reason"]
    assert ("b/2", 2, 1) == (resumed["owner"], resumed["epoch"], resumed["reconnects"])
    assert {
        "reason": "stopped",
        "started_at": EPOCH.isoformat(),
        "ended_at": clock().isoformat(),
        "duration_seconds": 15.0,
        "bytes_in": 7500,
        "reconnects": 1,
    }.items() <= ended.items()
    assert {lease.stream_session_id} == {
        data["stream_session_id"] for data in (started, disconnected, resumed, ended)
    }


def test_a_refused_publisher_leaves_nothing(streams, key, stream, history):
    streams.start(key, node="a")
    before = history(stream)
    with pytest.raises(StreamAlreadyLiveError):
        streams.start(key, node="b")

    assert before == history(stream)


def test_a_rolled_back_unit_leaves_no_event(database, streams, stream, history):
    before = history(stream)
    with pytest.raises(ZeroDivisionError), database.transaction() as work:
        streams.update(work, work.streams.get_one(stream.id), name="Never")
        raise ZeroDivisionError

    assert before == history(stream)


def test_an_ended_session_is_metered_for_its_owners_account(
    database, streams, billing, key, owner, clock
):
    with database.transaction() as work:
        account = billing.open_account(work, work.users.get_one(owner.id))
    lease = streams.start(key, node="a")
    clock.advance(11.5)
    streams.stop(lease, bytes_in=10**10)

    with database.read() as work:
        usage = billing.usage(work, account, EPOCH, clock.advance(1))
        rows = work.usage_logs.list_by_account(account.id, EPOCH, clock())
    assert Decimal("11.5") == usage[UsageKind.LIVE_SECONDS]
    assert Decimal(10**10) == usage[UsageKind.INGEST_BYTES]
    assert {
        f"session:{lease.stream_session_id}:live_seconds",
        f"session:{lease.stream_session_id}:ingest_bytes",
    } == {row.idempotency_key for row in rows}


def test_without_a_billing_account_nothing_is_metered(database, streams, key, clock):
    streams.stop(streams.start(key, node="a"))

    with database.read() as work:
        assert {} == work.usage_logs.sum_by_kind(0, EPOCH, clock.advance(1))
