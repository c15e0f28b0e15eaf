"""Personal fields: sealed in the log, opened on demand, gone with their key; all else stays."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest
from sqlalchemy import text

from rootstream_db.audit import acting
from rootstream_db.errors import ConflictError, SealBrokenError, UnknownKeyError, ValidationError
from rootstream_db.security.keyring import KeyRing
from rootstream_db.services.event_store import ERASED, Aggregate, EventStore, NewEvent
from rootstream_db.services.subject_keys import SubjectKeys
from tests.factories import make_user

ANN, BOB = uuid.uuid4(), uuid.uuid4()
MAIL = {"email": "ann@example.com", "address": {"street": "Elm St. 1", "floors": [1, 2]}}


def joined(events: EventStore, database, subject: uuid.UUID = ANN, **over: Any):
    with database.transaction() as work:
        values: dict[str, Any] = {"personal": MAIL, "subject_id": subject} | over
        return events.append(work, "Member", "1", "Joined", {"plan": "free"}, **values)


def erase(events: EventStore, database, subject: uuid.UUID = ANN) -> bool:
    with database.transaction() as work:
        return events.subjects.erase(work, subject)


def in_the_log(database) -> str:
    with database.transaction() as work:
        return str(work.session.execute(text("SELECT event_log::text FROM event_log")).all())


def forget_keys(events: EventStore) -> None:
    events.subjects.after_fork()


def keys_in(database, count: str = "count(*)") -> int:
    with database.transaction() as work:
        found = work.session.scalar(text(f"SELECT {count} FROM subject_keys"))
    return int(found or 0)


def test_personal_fields_are_sealed_in_the_log_and_open_on_demand(database, events):
    joined(events, database)
    (event,) = events.read("Member", "1")
    assert ({"plan": "free"}, ANN) == (event.data, event.subject_id)
    assert MAIL == events.personal_of(event)
    stored = in_the_log(database)
    assert "ann@example.com" not in stored
    assert "Elm" not in stored


def test_an_event_without_personal_fields_has_none_and_makes_no_key(database, events):
    with database.transaction() as work:
        events.append(work, "Member", "1", "Left", {}, subject_id=ANN)
    (event,) = events.read("Member", "1")
    assert ({}, {}, ANN) == (events.personal_of(event), event.metadata, event.subject_id)
    assert 0 == keys_in(database)


def test_appending_without_personal_fields_asks_the_database_nothing_more(
    database, events, statements
):
    with database.transaction() as work, statements(work) as made:
        events.append(work, "Member", "1", "Left", {"n": 1})
        events.flush(work)
    assert 1 == len(made)


def test_once_the_key_is_known_sealing_asks_the_database_nothing_more(database, events, statements):
    joined(events, database)
    with database.transaction() as work, statements(work) as made:
        events.append(work, "Member", "1", "Moved", {}, personal=MAIL, subject_id=ANN)
        events.flush(work)
    assert 1 == len(made)


def test_after_the_erasure_there_is_a_marker_and_everything_else(database, events):
    joined(events, database)
    assert erase(events, database)
    (event,) = events.read("Member", "1")
    assert {"plan": "free"} == event.data
    assert {"email": ERASED, "address": ERASED} == events.personal_of(event)
    assert not ERASED
    assert "ERASED" == repr(ERASED)


def test_the_chain_survives_an_erasure(database, events):
    joined(events, database)
    before = events.anchor()
    erase(events, database)
    joined(events, database)
    assert events.verify(anchors=[before]).ok


def test_who_erases_sees_it_before_the_commit_and_others_do_not(database, events):
    joined(events, database)
    (event,) = events.read("Member", "1")
    with database.transaction() as work:
        events.subjects.erase(work, ANN)
        assert ERASED is events.personal_of(event, work=work)["email"]
        assert MAIL == events.personal_of(event)


def test_an_erasure_that_is_rolled_back_never_happened(database, events):
    joined(events, database)
    (event,) = events.read("Member", "1")

    def failing() -> None:
        with database.transaction() as work:
            events.subjects.erase(work, ANN)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    with database.transaction() as work:
        with pytest.raises(RuntimeError), work.savepoint():
            events.subjects.erase(work, ANN)
            raise RuntimeError
        assert MAIL == events.personal_of(event, work=work)
    assert MAIL == events.personal_of(event)


def test_nothing_more_is_kept_of_somebody_who_was_erased(database, events):
    erase(events, database)
    joined(events, database)
    (event,) = events.read("Member", "1")
    assert {"email": None, "address": None} == event.metadata["personal"]
    assert {"email": ERASED, "address": ERASED} == events.personal_of(event)
    assert 0 == keys_in(database, "count(wrapped)")


def test_who_has_no_key_yet_is_not_taken_for_erased(database, events):
    with database.transaction() as work:
        events.append(work, "Member", "1", "Invited", {}, subject_id=ANN)
    (invited,) = events.read("Member", "1")
    assert {} == events.personal_of(invited)
    joined(events, database)
    assert [{}, MAIL] == events.personal_of_many(events.read("Member", "1"))


def test_nothing_more_is_kept_within_the_unit_that_erases(database, events):
    joined(events, database)
    with database.transaction() as work:
        events.subjects.erase(work, ANN)
        events.append(work, "Member", "1", "Left", {}, personal=MAIL, subject_id=ANN)
    assert [ERASED] * 2 == [
        personal["email"] for personal in events.personal_of_many(events.read("Member", "1"))
    ]


def test_erasing_twice_says_so_and_keeps_the_first_time(database, events, clock):
    assert erase(events, database)
    first = clock()
    clock.advance(60)
    assert not erase(events, database)
    with database.transaction() as work:
        assert [(ANN, first)] == list(work.subject_keys.list_erased())


def test_others_keep_what_is_theirs(database, events):
    joined(events, database)
    joined(events, database, BOB)
    erase(events, database)
    ann, bob = events.read("Member", "1")
    assert (ERASED, "ann@example.com") == tuple(
        personal["email"] for personal in events.personal_of_many([ann, bob])
    )


def test_a_sealed_field_opens_neither_in_another_event_nor_as_another_field(database, events):
    joined(events, database)
    joined(events, database)
    first, second = events.read("Member", "1")
    mine, other = dict(first.metadata["personal"]), second.metadata["personal"]
    for moved in ({"email": other["email"]}, {"email": mine["address"]}, {"email": "?"}):
        first.metadata["personal"].update(mine | moved)
        with pytest.raises(SealBrokenError):
            events.personal_of(first)


def test_an_append_that_is_repeated_is_the_same_event(database, events):
    event_id = uuid.uuid4()
    first = joined(events, database, event_id=event_id)
    forget_keys(events)
    again = joined(events, database, event_id=event_id)
    assert (False, True) == (first.duplicate, again.duplicate)
    with pytest.raises(ConflictError):
        joined(events, database, event_id=event_id, personal=MAIL | {"email": "x@example.com"})


def test_an_append_repeated_after_the_erasure_is_refused_and_changes_nothing(database, events):
    event_id = uuid.uuid4()
    joined(events, database, event_id=event_id)
    erase(events, database)
    with pytest.raises(ConflictError):
        joined(events, database, event_id=event_id)
    assert 1 == len(list(events.read("Member", "1")))


def test_what_was_handed_in_cannot_be_changed_any_more(database, events):
    mail = {"email": ["ann@example.com"]}
    with database.transaction() as work:
        events.append(work, "Member", "1", "Joined", {}, personal=mail, subject_id=ANN)
        mail["email"].append("later")
    (event,) = events.read("Member", "1")
    assert {"email": ["ann@example.com"]} == events.personal_of(event)


@pytest.mark.parametrize(
    ("over", "field"),
    [
        ({"subject_id": None}, "subject_id"),
        ({"personal": {"plan": "x"}}, "personal"),
        ({"personal": {"audit": "x"}}, "personal"),
        ({"personal": {"email": float("nan")}}, "personal.email"),
        ({"metadata": {"personal": {}}}, "metadata.personal"),
    ],
)
def test_what_cannot_be_sealed_is_refused_at_once(database, events, over, field):
    with pytest.raises(ValidationError) as caught:
        joined(events, database, **over)
    assert field == caught.value.field


def test_personal_fields_of_a_user_belong_to_the_account(database, events):
    with database.transaction() as work:
        user = make_user(work)
    joined(events, database, subject_id=None, user_id=user.id)
    joined(events, database, subject_id=None, user_id=user.id + 1)
    (known, stranger) = events.read("Member", "1")
    assert (user.public_id, MAIL) == (known.subject_id, events.personal_of(known))
    assert (None, ERASED) == (stranger.subject_id, events.personal_of(stranger)["email"])


def test_where_a_request_came_from_belongs_to_who_acted(database, events):
    with database.transaction() as work:
        ann, support = make_user(work), make_user(work)
    request = acting(ip_address="192.0.2.7", user_agent="Browser/1", request_id="r")
    with request, acting(user_id=support.id):
        joined(events, database, ann.public_id, user_id=ann.id)
    (event,) = events.read("Member", "1")
    assert "192.0.2.7" not in in_the_log(database)
    assert "r" == event.metadata["audit"]["request_id"]
    origin = {"ip_address": "192.0.2.7", "user_agent": "Browser/1"}
    assert MAIL | {"audit": origin} == events.personal_of(event)

    erase(events, database, support.public_id)
    assert MAIL | {"audit": dict.fromkeys(origin, ERASED)} == events.personal_of(event)


def test_where_nobody_with_an_account_acted_the_address_stays(database, events):
    with acting(ip_address="192.0.2.7"), database.transaction() as work:
        events.append(work, "Node", "1", "Rebooted", {})
    (event,) = events.read("Node", "1")
    assert {"ip_address": "192.0.2.7"} == event.metadata["audit"]
    assert {"audit": {"ip_address": "192.0.2.7"}} == events.personal_of(event)


def test_a_retry_from_elsewhere_is_the_same_event_also_when_sealed(database, events):
    with database.transaction() as work:
        user = make_user(work)
    event_id = uuid.uuid4()
    for address, known in (("192.0.2.1", False), ("192.0.2.2", True)):
        with acting(user_id=user.id, ip_address=address):
            assert known is joined(events, database, event_id=event_id).duplicate


def test_a_failed_unit_leaves_its_key_and_may_be_tried_again(committed_database, clock):
    events = EventStore(committed_database, clock=clock)
    event = NewEvent(event_type="Joined", data={}, personal=MAIL, subject_id=ANN)
    prepared = events.prepare("Member", "1", [event])

    def failing() -> None:
        with committed_database.transaction() as work:
            events.append_prepared(work, prepared)
            events.flush(work)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    with committed_database.transaction() as work:
        events.append_prepared(work, prepared)
    forget_keys(events)
    (recorded,) = events.read("Member", "1")
    assert MAIL == events.personal_of(recorded)


def test_replay_meets_a_marker_and_no_error(database, events):
    joined(events, database)
    erase(events, database)

    def apply(state: dict[str, Any], event) -> dict[str, Any]:
        return state | {"email": events.personal_of(event).get("email")}

    events.register("Member", Aggregate(apply=apply))
    state, version = events.load("Member", "1")
    assert ({"email": ERASED}, 1) == (state, version)
    events.create_snapshot("Member", "1", state, version)
    assert {"email": "erased"} == events.load("Member", "1").state


def test_an_appender_seals_too(committed_database, clock):
    events = EventStore(committed_database, clock=clock)
    event = NewEvent(event_type="Seen", data={}, personal=MAIL, subject_id=ANN)
    with events.appender() as appender:
        for _ in range(20):
            appender.append("Member", "1", event)
    recorded = list(events.read("Member", "1"))
    assert [MAIL] * 20 == events.personal_of_many(recorded)


def test_a_missing_master_key_is_named(database, clock):
    def store(ring: KeyRing) -> EventStore:
        return EventStore(database, clock=clock, subjects=SubjectKeys(database, lambda: ring))

    joined(store(KeyRing({1: b"1" * 32})), database)
    (event,) = store(KeyRing({1: b"1" * 32})).read("Member", "1")
    with pytest.raises(UnknownKeyError, match="master key 1"):
        store(KeyRing({2: b"2" * 32})).personal_of(event)


def test_the_key_of_one_person_does_not_serve_another(database, events):
    joined(events, database)
    joined(events, database, BOB)
    with database.transaction() as work:
        swap = "UPDATE subject_keys SET wrapped = :wrapped WHERE subject_id = :subject"
        keys = work.subject_keys.find_wrapped([ANN, BOB])
        work.session.execute(text(swap), {"wrapped": keys[BOB], "subject": ANN})
    forget_keys(events)
    (ann, _) = events.read("Member", "1")
    with pytest.raises(SealBrokenError):
        events.personal_of(ann)


def test_keys_are_kept_for_a_while_and_not_for_ever(database, events, monkeypatch):
    joined(events, database)
    (event,) = events.read("Member", "1")
    with database.transaction() as work:
        work.subject_keys.erase(ANN, work.now)  # as another process does, unheard
    assert MAIL == events.personal_of(event)
    later = time.monotonic() + 61
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert ERASED is events.personal_of(event)["email"]


def test_only_so_many_keys_are_kept(database):
    subjects = SubjectKeys(database, lambda: KeyRing({1: b"1" * 32}), capacity=2)
    people = [uuid.uuid4() for _ in range(4)]
    with database.transaction() as work:
        for person in people:
            subjects.for_sealing(work, person)
    assert people[2:] == list(subjects._ciphers)
