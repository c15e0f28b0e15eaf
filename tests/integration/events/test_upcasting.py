"""Events of every version ever written come back in the form of today, and stay as they were."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from rootstream_db.errors import ConflictError, UnknownEventVersionError, ValidationError

# One sample of each version ever written, and what every reader gets of it.
GOLDEN = {
    1: {"name": "Speedrun", "user": 7},
    2: {"title": "Speedrun", "user": 7},
    3: {"title": "Speedrun", "owner": {"id": 7}},
}
TODAY = {"title": "Speedrun", "owner": {"id": 7}}


@pytest.fixture
def upcasters(events):
    upcasters = events.upcasters

    # Out of order: modules are imported in any.
    @upcasters.upcasts("PollOpened", from_version=2)
    def owner_is_an_object(data):
        user = data.pop("user")
        return {**data, "owner": {"id": user}}

    @upcasters.upcasts("PollOpened", from_version=1)
    def name_is_called_title(data):
        return {"title": data["name"], "user": data["user"]}

    return upcasters


@pytest.fixture
def written(database, events):
    for version, data in GOLDEN.items():
        with database.transaction() as work:
            events.append(work, "Poll", "1", "PollOpened", data, schema_version=version, user_id=7)
            events.append(work, "Poll", "1", "Voted", {"for": "yes"}, schema_version=9)


READERS = {
    "read": lambda events: events.read("Poll", "1"),
    "read_all": lambda events: events.read_all(),
    "audit_trail": lambda events: events.audit_trail(7),
    "follow": lambda events: events.follow(idle=0),
}


@pytest.mark.usefixtures("upcasters", "written")
@pytest.mark.parametrize("reader", READERS)
def test_every_version_comes_back_in_the_form_of_today(events, reader):
    found = [event for event in READERS[reader](events) if event.event_type == "PollOpened"]
    assert [(TODAY, 3)] * len(GOLDEN) == [(event.data, event.schema_version) for event in found]


@pytest.mark.usefixtures("upcasters", "written")
def test_replay_sees_the_form_of_today(events):
    titles, _ = events.replay("Poll", "1", lambda seen, event: [*seen, event.data.get("title")], [])
    assert ["Speedrun", None] * 3 == titles


@pytest.mark.usefixtures("written", "upcasters")
def test_what_is_stored_stays_as_it_was_written(database, events):
    list(events.read("Poll", "1"))
    with database.read() as work:
        stored = work.session.execute(
            text(
                "SELECT schema_version, data FROM event_log"
                " WHERE event_type = 'PollOpened' ORDER BY position"
            )
        )
        assert GOLDEN == {row[0]: row[1] for row in stored}


@pytest.mark.usefixtures("upcasters")
def test_a_version_of_a_newer_release_is_an_error_that_names_it(database, events):
    with database.transaction() as work:
        event = events.append(work, "Poll", "1", "PollOpened", {}, schema_version=4)
    with pytest.raises(UnknownEventVersionError, match="knows versions up to 3") as raised:
        list(events.read("Poll", "1"))
    assert ("PollOpened", 4, event.position) == (
        raised.value.event_type,
        raised.value.version,
        raised.value.position,
    )


def test_a_missing_step_is_an_error_that_names_it(database, events):
    events.upcasters.declare("PollOpened", version=3)
    with database.transaction() as work:
        events.append(work, "Poll", "1", "PollOpened", {}, schema_version=2)
    with pytest.raises(UnknownEventVersionError, match="no upcaster from version 2"):
        list(events.read("Poll", "1"))


def test_two_upcasters_of_one_version_are_refused(upcasters):
    with pytest.raises(ConflictError):
        upcasters.upcasts("PollOpened", from_version=1)(dict)
    with pytest.raises(ValidationError):
        upcasters.declare("PollOpened", version=0)
