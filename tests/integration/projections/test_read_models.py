"""The read models that come with the package, made of what the services really append."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from rootstream_db.errors import ValidationError
from rootstream_db.services.event_store import NewEvent
from rootstream_db.testing import EPOCH

PASSWORD = "correct horse battery staple"
TODAY = EPOCH.date()
ALWAYS = {"since": date.min, "until": date.max}


@pytest.fixture
def alice(rootstream):
    with rootstream.transaction() as work:
        return rootstream.accounts.register(
            work, username="alice", email="alice@example.com", password=PASSWORD
        )


def days(rootstream, stream_id):
    with rootstream.database.read() as work:
        return list(work.stream_stats.list_days(stream_id, **ALWAYS))


def test_a_broadcast_counts_on_its_day(rootstream, alice, clock):
    with rootstream.transaction() as work:
        stream, key = rootstream.streams.create(work, owner=alice, name="Speedrun")
    for bytes_in in (1000, 500):
        lease = rootstream.streams.start(key, node="ingest-1")
        clock.advance(10)
        lease = rootstream.streams.heartbeat(lease, bytes_in=bytes_in)
        rootstream.streams.stop(lease)
    rootstream.projections.run_once()
    (day,) = days(rootstream, stream.id)
    assert (TODAY, 2, Decimal(20), 1500) == (
        day.day,
        day.broadcasts,
        day.live_seconds,
        day.bytes_in,
    )


def ended(started_at, lasted, **figures):
    data = dict.fromkeys(("bytes_in", "bytes_out", "views", "watch_seconds", "peak_viewers"), 0)
    times = {"started_at": started_at.isoformat(), "ended_at": (started_at + lasted).isoformat()}
    return NewEvent(event_type="StreamEnded", data={**data, **times, **figures})


def test_a_broadcast_over_midnight_is_on_the_air_on_both_days(rootstream):
    evening = datetime(2026, 1, 31, 23, 59, 59, 500_000, tzinfo=UTC)
    with rootstream.transaction() as work:
        rootstream.events.append_many(
            work,
            "Stream",
            "7",
            [
                ended(evening, timedelta(days=1, seconds=1), views=3, peak_viewers=2),
                ended(evening, timedelta(0), views=1, peak_viewers=9),
            ],
        )
    rootstream.projections.run_once("stream_stats_day")
    assert [
        (date(2026, 1, 31), 2, Decimal("0.5"), 4, 9),
        (date(2026, 2, 1), 0, Decimal(86400), 0, 0),
        (date(2026, 2, 2), 0, Decimal("0.5"), 0, 0),
    ] == [
        (day.day, day.broadcasts, day.live_seconds, day.views, day.peak_viewers)
        for day in days(rootstream, 7)
    ]


def test_days_are_added_to_and_peaks_are_not(rootstream):
    for views, peak in ((1, 5), (2, 3)):
        with rootstream.transaction() as work:
            event = ended(EPOCH, timedelta(seconds=1), views=views, peak_viewers=peak)
            rootstream.events.append_many(work, "Stream", "7", [event])
        rootstream.projections.run_once()
    (day,) = days(rootstream, 7)
    assert (2, 3, 5) == (day.broadcasts, day.views, day.peak_viewers)


def test_what_a_user_did_is_listed_newest_first_page_by_page(rootstream, alice):
    with rootstream.transaction() as work:
        stream, _ = rootstream.streams.create(work, owner=alice, name="Speedrun")
        rootstream.streams.update(work, stream, name="Any%")
    assert [] == list(rootstream.activity.list_for_user(alice.id))
    rootstream.projections.run_once()
    first = rootstream.activity.list_for_user(alice.id, limit=3)
    rest = rootstream.activity.list_for_user(alice.id, before_position=first[-1].position, limit=3)
    subject = f"Stream/{stream.id}"
    assert [
        ("StreamUpdated", subject),
        ("StreamKeyIssued", subject),
        ("StreamCreated", subject),
        ("UserRegistered", f"User/{alice.id}"),
    ] == [(entry.event_type, entry.subject) for entry in (*first, *rest)]
    assert EPOCH == first[0].occurred_at
    assert [] == list(rootstream.activity.list_for_user(alice.id + 1))


def test_a_feed_is_read_inside_a_unit_too(rootstream, alice):
    rootstream.projections.run_once()
    with rootstream.transaction() as work:
        assert 1 == len(rootstream.activity.list_for_user(alice.id, work=work))


@pytest.mark.parametrize("limit", [0, 1001])
def test_a_page_has_a_size(rootstream, limit):
    with pytest.raises(ValidationError):
        rootstream.activity.list_for_user(1, limit=limit)


@pytest.mark.parametrize("runs_between", [True, False])
def test_the_feed_of_a_deleted_account_is_gone(rootstream, alice, runs_between):
    if runs_between:
        rootstream.projections.run_once()
    with rootstream.transaction() as work:
        rootstream.accounts.delete(work, work.users.get_one(alice.id))
    rootstream.projections.run_once()
    assert [] == list(rootstream.activity.list_for_user(alice.id))
