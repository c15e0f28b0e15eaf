"""Readers do not notice that events were archived: all ways of reading give what they gave."""

from __future__ import annotations

import threading
import uuid
from datetime import timedelta
from itertools import islice

import pytest

from rootstream_db.errors import ConfigurationError
from rootstream_db.services.event_archive import ArchiveReader, writer
from rootstream_db.services.event_store import Aggregate, EventStore, SnapshotPolicy
from rootstream_db.services.event_store.verification import LogVerifier
from rootstream_db.services.projections import Projections
from tests.fixtures.tallies import Tally

SIZES = (3, 1, 4, 1, 5, 9, 2, 6)
EVENTS = sum(SIZES)
ANN, BOB = uuid.uuid4(), uuid.uuid4()


@pytest.fixture(params=[2, 1000], ids=["small blocks", "one block"])
def log(request, site, monkeypatch):
    """A log of some thirty events, written by two users, of which nothing is archived yet."""
    monkeypatch.setattr(writer, "BLOCK_EVENTS", request.param)
    for number, size in enumerate(SIZES):
        site.append(size, user_id=(None, 7, 8)[number % 3], subject_id=(ANN, None, BOB)[number % 3])
    return site


class EveryTally(Tally):
    """Counts events of every type."""

    types = None


def archived(site, read, *, keep):
    """Return what a way of reading gave before and what it gives after archiving."""
    before = read()
    site.archiver.archive(keep=keep)
    return before, read()


# 0: everything is archived.
@pytest.mark.parametrize("keep", [0, 9])
class TestEveryWayOfReading:
    def test_the_whole_log(self, log, keep):
        before, after = archived(log, lambda: list(log.events.read_all()), keep=keep)
        assert list(range(1, EVENTS + 1)) == [event.position for event in before]
        assert before == after

    @pytest.mark.parametrize("batch", [1, 3, 1000])
    def test_the_log_from_any_position_to_any_other(self, log, keep, batch):
        def read():
            return [
                [event.position for event in found]
                for start in range(0, EVENTS + 2, 5)
                for end in (None, start, start + 1, start + 7)
                for found in [
                    log.events.read_all(after_position=start, to_position=end, batch=batch)
                ]
            ]

        before, after = archived(log, read, keep=keep)
        assert before == after

    def test_the_log_by_type(self, log, keep):
        before, after = archived(
            log, lambda: list(log.events.read_all(types=["Seen"], batch=2)), keep=keep
        )
        assert before
        assert before == after

    def test_an_aggregate(self, log, keep):
        def read():
            return [
                list(log.events.read("Poll", poll, after_version=start, to_version=end, batch=2))
                for poll in ("0", "1", "2", "none")
                for start in (0, 1, 4, 99)
                for end in (None, 0, 3)
            ]

        before, after = archived(log, read, keep=keep)
        assert any(before)
        assert before == after

    def test_the_trail_of_a_user(self, log, keep):
        times = [event.recorded_at for event in log.events.read_all()]

        def read():
            return [
                list(log.events.audit_trail(user, since=since, until=until, types=types, batch=2))
                for user in (7, 8, 9)
                for since in (None, times[12])
                for until in (None, times[20])
                for types in (None, {"Voted"})
            ]

        before, after = archived(log, read, keep=keep)
        assert any(before)
        assert before == after

    @pytest.mark.parametrize("batch", [2, 1000])
    def test_what_is_about_a_person(self, log, keep, batch):
        def read():
            return [list(log.events.about(one, batch=batch)) for one in (ANN, BOB, uuid.uuid4())]

        before, after = archived(log, read, keep=keep)
        assert [True, True, False] == [bool(found) for found in before]
        assert before == after

    def test_following(self, log, keep):
        def follow():
            everything = list(log.events.follow(idle=0, batch=4))
            some = list(log.events.follow(idle=0, after_position=6, types={"Seen"}))
            return everything, some

        before, after = archived(log, follow, keep=keep)
        assert EVENTS == len(before[0])
        assert before == after

    def test_the_state_at_every_version_and_moment(self, log, keep):
        times = [event.recorded_at for event in log.events.read("Poll", "0")]
        moments = [times[0] - timedelta(seconds=1), *times, times[-1] + timedelta(seconds=1)]

        def read():
            by_version = [replay(log.events, to_version=n) for n in range(len(times) + 1)]
            return by_version, [replay(log.events, to_time=moment) for moment in moments]

        before, after = archived(log, read, keep=keep)
        assert ((), 0) == before[1][0]
        assert len(times) == before[1][-1].version
        assert before == after

    def test_inside_a_unit_of_work(self, log, keep):
        def read():
            with log.database.transaction() as work:
                return list(log.events.read_all(work=work)), list(
                    log.events.read("Poll", "0", work=work)
                )

        before, after = archived(log, read, keep=keep)
        assert before == after

    def test_the_hashes(self, log, keep):
        before, after = archived(log, log.events.verify, keep=keep)
        assert after.ok
        assert before == after


def replay(events, **options):
    return events.replay("Poll", "0", lambda seen, event: (*seen, event.position), (), **options)


@pytest.mark.parametrize("start", range(0, EVENTS, 3))
def test_verifying_may_begin_anywhere(log, start):
    before = log.events.verify(after_position=start)
    log.archiver.archive(keep=5)
    assert before == log.events.verify(after_position=start)


def test_verifying_ends_where_the_log_ended_when_it_began(log):
    """Events that come meanwhile and are archived at once are no events too many."""

    def go_on(_verified: int) -> None:
        log.append(3)
        log.archiver.archive(keep=0)

    verifier = LogVerifier(
        log.database, archive=ArchiveReader(log.directory), progress=go_on, page=2
    )
    verification = verifier.verify(0)
    assert verification.finding is None
    assert EVENTS == verification.events


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_events_that_move_between_two_pages_come_once(log, batch):
    """A reader of each kind goes on while every step archives a little more."""
    wanted = list(log.events.read_all())
    readers = [
        log.events.read_all(batch=batch),
        log.events.read_all(batch=batch, types={"Seen"}),
        log.events.read("Poll", "0", batch=batch),
        log.events.audit_trail(7, batch=batch),
        log.events.about(BOB, batch=batch),
        log.events.follow(idle=0, batch=batch),
    ]
    seen: list[list] = [[] for _ in readers]
    for number in range(EVENTS):
        for reader, events in zip(readers, seen, strict=True):
            events.extend(islice(reader, 1))
        log.archiver.archive(before_position=number + 2)
    for reader, events in zip(readers, seen, strict=True):
        events.extend(reader)
    assert wanted == seen[0]
    assert [event for event in wanted if event.event_type == "Seen"] == seen[1]
    assert [event for event in wanted if event.aggregate_id == "0"] == seen[2]
    assert [event for event in wanted if event.user_id == 7] == seen[3]
    assert [event for event in wanted if event.subject_id == BOB] == seen[4]
    assert wanted == seen[5]


def test_readers_beside_an_archiver_miss_and_repeat_nothing(log):
    done = threading.Event()
    wrong: list[list[int]] = []

    def read():
        while not done.is_set():
            positions = [event.position for event in log.events.read_all(batch=3)]
            if positions != list(range(1, EVENTS + 1)):
                wrong.append(positions)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for position in range(2, EVENTS + 2):
            log.archiver.archive(before_position=position)
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert [] == wrong
    assert 0 == log.count_rows()


def test_a_snapshot_and_the_archived_events_after_it_make_the_state(log):
    def count(state, event):
        return {"seen": [*state["seen"], event.position]}

    aggregate = Aggregate(apply=count, initial={"seen": []}, policy=SnapshotPolicy(every=10**6))
    log.events.register("Poll", aggregate)
    state, version = log.events.load("Poll", "0", to_version=2)
    log.events.create_snapshot("Poll", "0", state, version)
    expected = log.events.load("Poll", "0")
    log.archiver.archive(keep=0)
    assert expected == log.events.load("Poll", "0")


@pytest.mark.parametrize(("more", "taken"), [(0, True), (1, False)])
def test_a_policy_by_bytes_counts_archived_events_too(log, more, taken):
    with log.database.read() as work:
        length, _ = work.events.count_bytes("Poll", "0", after_version=0)
    policy = SnapshotPolicy(every=10**6, bytes=length + len("{}") + more)
    aggregate = Aggregate(apply=lambda state, event: {"n": event.version}, policy=policy)
    log.events.register("Poll", aggregate)
    log.archiver.archive(keep=0)
    with log.database.transaction() as work:
        log.events.append(work, "Poll", "0", "Voted", {})
    assert taken == (log.events.get_latest_snapshot("Poll", "0") is not None)


def test_a_projection_is_rebuilt_from_the_archive(log):
    with log.database.transaction() as work:
        Tally.create(work)
    projections = Projections(log.database, log.events, [EveryTally()], batch=4)
    try:
        projections.run_once()
        log.archiver.archive(keep=5)
        projections.rebuild("tally")
        with log.database.read() as work:
            assert dict.fromkeys(range(1, EVENTS + 1), 1) == EveryTally().seen(work)
        assert {"current"} == {status.state for status in projections.status()}
    finally:
        with log.database.transaction() as work:
            Tally.drop(work)


def test_a_new_projection_waits_since_its_first_archived_event(log):
    first = next(iter(log.events.read_all()))
    log.archiver.archive(keep=0)
    with log.database.transaction() as work:
        work.checkpoints.ensure(["new"])
        (standing,) = work.checkpoints.list_standings()
    assert first.recorded_at == standing.waiting_since


def test_a_reader_that_was_not_told_where_the_files_are_says_so(log):
    log.archiver.archive(keep=5)
    unaware = EventStore(log.database)
    assert 5 == len(list(unaware.read_all(after_position=EVENTS - 5)))
    with pytest.raises(ConfigurationError, match="ROOTSTREAM_EVENTS__ARCHIVE_DIRECTORY"):
        list(unaware.read_all())
