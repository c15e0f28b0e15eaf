"""The end of a person's data: everywhere, at once, for good, and nothing else with it."""

from __future__ import annotations

import threading
import time
import uuid

import pytest
from sqlalchemy import text

from rootstream_db.cache.keys import USER
from rootstream_db.errors import (
    AuthenticationError,
    NotFoundError,
    RootStreamError,
    ValidationError,
)
from rootstream_db.models import Base
from rootstream_db.rootstream import RootStream
from rootstream_db.services.event_store import ERASED, Aggregate
from rootstream_db.services.privacy import Erasure, append_ledger, read_ledger
from rootstream_db.services.streams import LiveState
from rootstream_db.settings import EventSettings
from tests.fixtures.doom import doomed
from tests.integration.privacy.conftest import PERSONAL, register


def erase(rs: RootStream, user):
    with rs.transaction() as work:
        return rs.access.erase_user(work, user)


def everything_stored(rs: RootStream) -> str:
    """All rows of all tables, and all of Redis, as text."""
    tables = [table.name for table in Base.metadata.sorted_tables]
    with rs.transaction() as work:
        rows = [
            str(work.session.execute(text(f"SELECT t::text FROM {name} AS t")).all())
            for name in tables
        ]
    client = rs.cache.client
    strings = [key for key in client.scan_iter() if client.type(key) == b"string"]
    return "\n".join([*rows, *(f"{key!r} {client.get(key)!r}" for key in strings)])


def test_nothing_that_says_who_she_is_remains_anywhere(rootstream, ann, bob):
    rootstream.cache.set_json(rootstream.cache.key(USER, user_id=ann.user.id), {"n": PERSONAL[0]})
    before = everything_stored(rootstream)
    assert [mark for mark in PERSONAL[:4] if mark not in before] == []

    erase(rootstream, ann.user)

    after = everything_stored(rootstream)
    assert [mark for mark in PERSONAL if mark in after] == []
    assert "bob_jones" in after


def test_account_sessions_streams_and_what_hangs_on_them_are_gone(rootstream, ann):
    erased = erase(rootstream, ann.user)
    assert (ann.user.id, ann.user.public_id, 1) == (
        erased.user_id,
        erased.subject_id,
        erased.streams,
    )
    assert sorted(ann.files) == list(erased.recording_files)
    with rootstream.database.read() as work:
        assert work.users.get(ann.user.id) is None
        assert work.streams.get(ann.stream.id) is None
    with pytest.raises(AuthenticationError):
        rootstream.sessions.validate(ann.session_token)


def test_events_stay_with_a_marker_and_the_chain_holds(rootstream, ann):
    anchor = rootstream.events.anchor()
    count = anchor.last_position
    erase(rootstream, ann.user)
    events = list(rootstream.events.read_all())
    assert count < len(events)
    personal = rootstream.events.personal_of(events[0])
    assert {"username": ERASED, "email": ERASED, "display_name": ERASED} == personal
    assert rootstream.events.verify(anchors=[anchor]).ok


def test_the_erasure_is_an_event_and_names_the_files_left(rootstream, ann):
    erase(rootstream, ann.user)
    told = {event.event_type: event.data for event in rootstream.events.read_all()}
    assert {"streams": 1, "recording_files": 3} == told["UserErased"]
    assert {"files": sorted(ann.files)} == told["RecordingFilesLeft"]


def test_bills_stay_without_the_person(rootstream, ann):
    erase(rootstream, ann.user)
    with rootstream.database.read() as work:
        owner, quantity = work.session.execute(
            text("SELECT a.user_id, u.quantity FROM billing_accounts a, usage_logs u")
        ).one()
    assert (None, 7) == (owner, quantity)


def test_the_name_is_free_again_and_the_new_account_is_another_person(rootstream, ann):
    erase(rootstream, ann.user)
    again = register(rootstream, "ann_smith", email=PERSONAL[1])
    assert again.public_id != ann.user.public_id
    *_, registered = rootstream.events.read("User", str(again.id))
    assert "ann_smith" == rootstream.events.personal_of(registered)["username"]


def test_others_keep_theirs(rootstream, ann, bob):
    erase(rootstream, ann.user)
    (registered,) = rootstream.events.read("User", str(bob.id))
    assert "Bob Jones" == rootstream.events.personal_of(registered)["display_name"]


def test_an_erasure_that_fails_leaves_everything(rootstream, ann):
    def failing() -> None:
        with rootstream.transaction() as work:
            rootstream.privacy.erase_user(work, ann.user)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    (first, *_) = rootstream.events.read_all()
    assert "ann_smith" == rootstream.events.personal_of(first)["username"]
    with rootstream.database.read() as work:
        assert work.users.get(ann.user.id) is not None
    assert [] == list(rootstream.privacy.ledger())


def test_nobody_is_erased_twice(rootstream, ann):
    erase(rootstream, ann.user)
    with pytest.raises(NotFoundError):
        erase(rootstream, ann.user.id)


def test_snapshots_that_may_know_her_are_dropped(rootstream, ann, bob):
    events = rootstream.events

    def apply(state, event):
        return state | {"name": events.personal_of(event).get("username", state.get("name"))}

    events.register("User", Aggregate(apply=apply))
    for user in (ann.user, bob):
        state, version = events.load("User", str(user.id))
        events.create_snapshot("User", str(user.id), state, version)
    erase(rootstream, ann.user)
    assert events.get_latest_snapshot("User", str(ann.user.id)) is None
    assert events.get_latest_snapshot("User", str(bob.id)) is not None
    assert ERASED is events.load("User", str(ann.user.id)).state["name"]


def test_what_was_archived_is_erased_with_it(rootstream, ann, tmp_path):
    events = EventSettings(archive_directory=tmp_path)
    settings = rootstream.settings.model_copy(update={"events": events})
    with RootStream(settings, clock=rootstream.clock) as rs:
        state, version = {"name": "ann_smith"}, 1
        rs.events.create_snapshot("User", str(ann.user.id), state, version)
        rs.event_archive.archive(keep=1)
        (first, *_) = rs.events.read_all()
        assert "ann_smith" == rs.events.personal_of(first)["username"]
        assert b"".join(rs.privacy.export_user(ann.user.id)).count(b"UserRegistered") == 1

        erase(rs, ann.user)

        assert ERASED is rs.events.personal_of(first)["username"]
        assert rs.events.get_latest_snapshot("User", str(ann.user.id)) is None
        assert rs.events.verify().ok
        assert [mark for mark in PERSONAL if mark in everything_stored(rs)] == []


def test_what_others_did_to_her_is_found_in_the_archive_too(rootstream, ann, bob, tmp_path):
    events = EventSettings(archive_directory=tmp_path)
    settings = rootstream.settings.model_copy(update={"events": events})
    with RootStream(settings, clock=rootstream.clock) as rs:
        with rs.transaction() as work:
            about_ann = {"subject_id": ann.user.public_id, "user_id": bob.id}
            rs.events.append(
                work, "Report", "1", "UserReported", {}, personal={"text": "rude"}, **about_ann
            )
        rs.events.create_snapshot("Report", "1", {"text": "rude"}, 1)
        rs.event_archive.archive(keep=0)
        assert b"".join(rs.privacy.export_user(ann.user.id)).count(b'"text":"rude"') == 1

        erase(rs, ann.user)

        assert rs.events.get_latest_snapshot("Report", "1") is None


def test_another_process_that_knew_the_key_forgets_it_at_once(rootstream, ann):
    with RootStream(rootstream.settings, clock=rootstream.clock) as other:
        (first, *_) = other.events.read_all()
        assert "ann_smith" == other.events.personal_of(first)["username"]
        erase(rootstream, ann.user)
        deadline = time.monotonic() + 5
        while other.events.personal_of(first)["username"] is not ERASED:
            assert time.monotonic() < deadline
            time.sleep(0.005)


def test_a_process_that_was_cut_off_looks_again(rootstream, ann):
    with RootStream(rootstream.settings, clock=rootstream.clock) as other:
        (first, *_) = other.events.read_all()
        assert "ann_smith" == other.events.personal_of(first)["username"]
        with rootstream.transaction() as work:  # announced while nothing was heard
            work.subject_keys.erase(ann.user.public_id, work.now)
        assert "ann_smith" == other.events.personal_of(first)["username"]
        rootstream.cache.client.client_kill_filter(_type="pubsub")
        deadline = time.monotonic() + 10
        while other.events.personal_of(first)["username"] is not ERASED:
            assert time.monotonic() < deadline
            time.sleep(0.005)


def test_a_live_broadcast_ends(rootstream, ann):
    with rootstream.transaction() as work:
        _, key = rootstream.streams.issue_key(work, ann.stream)
    lease = rootstream.streams.start(key, node="edge-1", ip_address=PERSONAL[3])
    assert rootstream.streams.live_status(ann.stream.id).state is LiveState.LIVE
    erase(rootstream, ann.user)
    with pytest.raises(RootStreamError):
        rootstream.streams.heartbeat(lease)
    assert [mark for mark in PERSONAL if mark in everything_stored(rootstream)] == []


def test_readers_and_writers_at_work_meet_no_error(rootstream, bob):
    """Whoever appends and opens while somebody is erased gets what was there, or the marker."""
    people = [uuid.uuid4() for _ in range(6)]
    stop, failures, seen = threading.Event(), list[BaseException](), set[object]()

    def use(number: int) -> None:
        events = RootStream(rootstream.settings, clock=rootstream.clock)
        with events as rs:
            while not stop.is_set():
                try:
                    with rs.transaction() as work:
                        person = people[number % len(people)]
                        rs.events.append(
                            work, "Member", "1", "Seen", {}, personal={"n": 1}, subject_id=person
                        )
                    recorded = list(rs.events.read("Member", "1"))
                    seen.update(one["n"] for one in rs.events.personal_of_many(recorded))
                except Exception as error:  # noqa: BLE001 - each is a finding
                    failures.append(error)
                number += 1

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for person in people:
        events_before = rootstream.events.head().last_position
        deadline = time.monotonic() + 20
        while rootstream.events.head().last_position < events_before + 8:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        with rootstream.transaction() as work:
            rootstream.privacy.erase_subject(work, person)
    stop.set()
    for thread in threads:
        thread.join()

    assert [] == failures
    assert {1, ERASED} == seen
    rootstream.subjects.after_fork()
    recorded = list(rootstream.events.read("Member", "1"))
    assert {ERASED} == {one["n"] for one in rootstream.events.personal_of_many(recorded)}
    assert rootstream.events.verify().ok


def test_death_at_any_step_leaves_all_or_nothing(rootstream, settings, clock, ann):
    step = 0
    while True:
        step += 5
        died = doomed(lambda: erase(rootstream, ann.user), at=step)
        with RootStream(settings, clock=clock) as fresh:
            with fresh.database.read() as work:
                there = work.users.get(ann.user.id) is not None
            (first, *_) = fresh.events.read_all()
            name = fresh.events.personal_of(first)["username"]
            assert ("ann_smith" if there else ERASED) == name
            assert there is ([] == list(fresh.privacy.ledger()))
            if not there:
                with pytest.raises(AuthenticationError):
                    fresh.sessions.validate(ann.session_token)
        if not (died and there):
            break
    assert 20 < step


# ---- the ledger


def test_the_ledger_names_every_erasure_in_order(rootstream, ann, bob, clock):
    first = Erasure(erase(rootstream, ann.user).subject_id, clock())
    clock.advance(1)
    second = Erasure(erase(rootstream, bob).subject_id, clock())
    assert [first, second] == list(rootstream.privacy.ledger())


def test_a_ledger_file_gets_what_is_new_and_keeps_what_it_has(tmp_path, rootstream, ann, bob):
    path = tmp_path / "erasures.jsonl"
    erase(rootstream, ann.user)
    assert 1 == append_ledger(path, rootstream.privacy.ledger())
    rootstream.clock.advance(1)
    erase(rootstream, bob)
    assert [1, 0] == [append_ledger(path, rootstream.privacy.ledger()) for _ in range(2)]
    assert list(rootstream.privacy.ledger()) == list(read_ledger(path))
    assert 0o600 == path.stat().st_mode & 0o777
    path.write_text("my diary\n")
    with pytest.raises(ValidationError, match="line 1 of the ledger is no erasure"):
        list(read_ledger(path))


def test_what_a_restore_brings_back_is_erased_again(rootstream, ann, bob, committed_copy):
    with committed_copy() as restore:
        erase(rootstream, ann.user)
        ledger = list(rootstream.privacy.ledger())
        restore()
    rootstream.subjects.after_fork()
    (first, *_) = rootstream.events.read_all()
    assert "ann_smith" == rootstream.events.personal_of(first)["username"]

    assert 1 == rootstream.privacy.reapply(ledger)
    assert 0 == rootstream.privacy.reapply(ledger)

    assert [mark for mark in PERSONAL if mark in everything_stored(rootstream)] == []
    with rootstream.database.read() as work:
        assert work.users.get(bob.id) is not None
